// The Authorization header of a request: the token of the profile in $profile, or nothing while there is no token.
import fs from 'fs';

function bearer(r) {
    try {
        return 'Bearer ' + fs.readFileSync('/run/vx-token/' + r.variables.profile + '/token', 'utf8');
    } catch (error) {
        return '';
    }
}

export default { bearer };
