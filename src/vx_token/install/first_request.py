"""The first request after setup: it proves that the token lives and that the profile's model answers."""

import contextlib
from collections.abc import Mapping

from vx_token.config.duration import shown
from vx_token.config.model import Profile
from vx_token.credentials import credential_file
from vx_token.credentials.token import Token
from vx_token.errors import VxTokenError, error_of
from vx_token.install.setup_login import GCLOUD_PAGE, has_gcloud
from vx_token.tokens.refresh import Refresher
from vx_token.vertex.diagnosis import Diagnosis
from vx_token.vertex.probe import probe


def first_request(profile: Profile, refresher: Refresher, environ: Mapping[str, str]) -> str:
    """Get a live token, ask the model, and return a line about each.

    Raises:
        VxTokenError: there is no token or no answer; with status 1 whatever the cause, because setup itself is done.
    """
    try:
        token = refresher.current(profile)
        result = _asked(environ, profile, token)
        if result.status == 401:  # the recorded token may have been revoked since, so try a new one
            token = _renewed(refresher, profile, token)
            result = _asked(environ, profile, token)
    except VxTokenError as error:
        raise VxTokenError(error.message, _with_remarks(error.hint, environ)) from None
    if not result.ok:
        raise VxTokenError(result.detail, _with_remarks(result.hint, environ))
    left = shown(token.remaining(refresher.clock.now()))
    key = "; tools with a key command take: vx-token gateway key" if profile.mode == "gateway" else ""
    return f"{profile.name}: a live token, {left} left{key}\n{profile.name}: {result.detail}"


_OVERRIDES = [f"VX_TOKEN_{key}" for key in ("PROJECT", "LOCATION", "MODEL", "BASE_URL", "CREDENTIALS", "ACCOUNT")]


def _with_remarks(hint: str, environ: Mapping[str, str]) -> str:
    """Return the hint, with what would keep its command from helping: a variable that wins, or a missing gcloud."""
    winning = [name for name in _OVERRIDES if environ.get(name)]
    remarks = [f"first: unset {' '.join(winning)}"] if winning else []
    if "gcloud " in hint and not has_gcloud(environ):
        remarks.append(f"to install gcloud: {GCLOUD_PAGE}")
    return f"{hint} ({'; '.join(remarks)})" if remarks else hint


def _asked(environ: Mapping[str, str], profile: Profile, token: Token) -> Diagnosis:
    login = None
    with contextlib.suppress(VxTokenError):  # the token was made before the credential file was spoilt
        login, _ = credential_file.find(profile, environ)
    return probe(environ, profile, token, login)


def _renewed(refresher: Refresher, profile: Profile, rejected: Token) -> Token:
    now = refresher.clock.now()
    state = refresher.refresh(profile, rejected.value)
    token = state.live(now)
    if token is None or state.failure:
        raise error_of(state.failure, now)
    return token
