# vx-token for fish: keeps OPENAI_API_KEY and related variables current in an interactive shell.
#
# The hook reads the file <runtime>/<profile>/env.fish at each prompt and before each command. It parses the file and
# never executes it. It starts no program, except `ls` once for each folder. It exports only the variables of the file; a
# universal variable of the same name is hidden by our global one until vx-token-off. See `vx-token help shell`.
#
# The sections are in the order in which a shell runs them. Sourcing the file runs the last one, Loading. The functions
# of each prompt are at the top also because fish counts the lines above a function before each of its commands.

# --- At each prompt and before each command -----------------------------------------------------------------------

# Installs the hook in this shell. An empty local fish_trace keeps values out of a trace. fish itself restores
# $status and $pipestatus after an event.
function __vx_token_register
    function __vx_token_prompt --on-event fish_prompt
        set -l fish_trace
        __vx_token_is_unchanged; or __vx_token_update_prompt
    end
    function __vx_token_preexec --on-event fish_preexec
        set -l fish_trace
        __vx_token_is_unchanged; or __vx_token_update_variables
    end
end

# Removes the hook from this shell.
function __vx_token_unregister
    builtin functions -e __vx_token_prompt __vx_token_preexec
end

# Updates the variables and the status for prompts, and prints a notice when the state has changed.
function __vx_token_update_prompt
    set -l fish_trace
    set -lx IFS \n
    __vx_token_update_variables
    __vx_token_set_status
    test "$__vx_token_state" = "$__vx_token_notified"; or __vx_token_notify
    __vx_token_take_snapshot
end

# --- When nothing has changed -------------------------------------------------------------------------------------

# Checks that the file's content and each variable that an update reads are those of the last snapshot, and that no
# time limit has passed. This is one function of few commands because it is all that nearly every prompt runs.
# Folders that take precedence over the file's folder may appear at any time, so they are checked too.
function __vx_token_is_unchanged
    for part in $__vx_token_sticky_entries
        test -O $part -a ! -L $part; or return 1
    end
    test -f "$__vx_token_file" -a -O "$__vx_token_file" -a -r "$__vx_token_file"
    and test ! -d "$__vx_token_higher_folders[1]" -a ! -d "$__vx_token_higher_folders[2]"
    and read -l -z text <$__vx_token_file; or return 1
    set -l values $$__vx_token_watched
    test "$text$values" = "$__vx_token_snapshot"; or return 1
    __vx_token_read_uptime
    test $__vx_token_uptime -ge $__vx_token_valid_from -a $__vx_token_uptime -lt $__vx_token_valid_until
end

# Sets __vx_token_uptime to the seconds since the system started. fish cannot read the time of day without a fork.
function __vx_token_read_uptime
    read -l -d ' ' uptime rest </proc/uptime
    set -gu __vx_token_uptime $uptime
end

# Stores what is_unchanged compares. It is valid until the minutes in VX_TOKEN_STATUS change. There is no snapshot
# of an unreadable file or of a state whose notice is still due, so the next prompt runs a full update.
function __vx_token_take_snapshot
    __vx_token_read_uptime
    test -n "$__vx_token_content" -a -n "$__vx_token_uptime" -a "$__vx_token_state" = "$__vx_token_notified"; or return 0
    set -gu __vx_token_watched VX_TOKEN_STATUS VX_TOKEN_RUNTIME_DIR VX_TOKEN_PROFILE $__vx_token_names
    set -gu __vx_token_higher_folders
    if test -z "$VX_TOKEN_RUNTIME_DIR"
        set -a __vx_token_watched XDG_RUNTIME_DIR TMPDIR TEMP TMP HOME
        if test -z "$XDG_RUNTIME_DIR"; or not string match -q -- "$XDG_RUNTIME_DIR/*" $__vx_token_file
            set -a __vx_token_higher_folders $XDG_RUNTIME_DIR
            string match -q -- "/run/user/$EUID/*" $__vx_token_file; or set -a __vx_token_higher_folders /run/user/$EUID
        end
    end
    # The clock shows whole seconds, so up to one second of the last minute has already passed.
    set -l left "($__vx_token_expires - $__vx_token_now)"
    set -l life "min($left % 60, $left - 1)"
    if test "$__vx_token_mode" = gateway
        set life 60
        set -a __vx_token_watched HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy NO_PROXY no_proxy
    end
    set -l values $$__vx_token_watched
    set -gu __vx_token_snapshot "$__vx_token_content$values"
    set -gu __vx_token_valid_from $__vx_token_uptime
    set -gu __vx_token_valid_until (builtin math "$__vx_token_uptime + $life")
end

# --- Updating the variables ---------------------------------------------------------------------------------------

# Updates the variables from the file. __vx_token_state becomes ok, login, expired, malformed, gone, unsafe,
# foreign, unreadable or `paused NAME`. With the user's own IFS, command substitutions would not be split at line
# ends.
function __vx_token_update_variables
    set -l fish_trace
    set -lx IFS \n
    set -l profile default
    test -n "$VX_TOKEN_PROFILE"; and set profile $VX_TOKEN_PROFILE
    __vx_token_find_file $profile
    __vx_token_load_file
    __vx_token_read_clock
    set -gu __vx_token_valid_until 0
    __vx_token_update_offer
    set -gu __vx_token_state ok
    if not set -q __vx_token_names[1]
        set __vx_token_state expired
        test -n "$__vx_token_problem"; and set __vx_token_state $__vx_token_problem
        __vx_token_withdraw_token
    else if test "$__vx_token_mode" = direct -a $__vx_token_now -ge $__vx_token_expires
        set __vx_token_state expired
        __vx_token_withdraw_token
    else
        __vx_token_provide_token
    end
    test "$__vx_token_status" = login; and builtin contains -- $__vx_token_state ok expired
    and set __vx_token_state login
    return 0
end

# Sets the variables of a valid token.
function __vx_token_provide_token
    __vx_token_apply_offer
    if test "$__vx_token_mode" = gateway -a "$__vx_token_state" = ok
        __vx_token_update_no_proxy add
    else
        __vx_token_update_no_proxy remove
    end
    test "$__vx_token_state" = ok -a -n "$__vx_token_problem"; and set __vx_token_state $__vx_token_problem
end

# Unsets our variables when there is no valid token. The user's own values stay set aside, because an expired token
# must not send the next command to another provider and its bill.
function __vx_token_withdraw_token
    __vx_token_withdraw __vx_token_unset
    __vx_token_update_no_proxy remove
    __vx_token_export_marker
end

# --- Reading the file ---------------------------------------------------------------------------------------------

# Sets __vx_token_path_found to the file of profile $argv[1]. The order is that of the program:
# VX_TOKEN_RUNTIME_DIR, XDG_RUNTIME_DIR, the system's folder for the user, the folder for temporary files.
function __vx_token_find_file
    set -l folder
    if test -n "$VX_TOKEN_RUNTIME_DIR"
        set folder $VX_TOKEN_RUNTIME_DIR
    else if string match -q '/*' -- "$XDG_RUNTIME_DIR"; and test -d "$XDG_RUNTIME_DIR" -a -O "$XDG_RUNTIME_DIR"
        set folder $XDG_RUNTIME_DIR/vx-token
    else if test -d /System/Library/CoreServices
        set folder $HOME/Library/Caches/TemporaryItems/vx-token
    else if test -d /run/user/$EUID -a -O /run/user/$EUID
        set folder /run/user/$EUID/vx-token
    else
        for tmp in $TMPDIR $TEMP $TMP /tmp
            set folder $tmp/runtime-$EUID/vx-token
            string match -q '/*' -- $tmp; and test -d $tmp -a -w $tmp; and break
        end
    end
    string match -q '/*' -- $folder; or set folder $PWD/$folder
    set -gu __vx_token_path_found $folder/$argv[1]/env.fish
end

# Reads the file, or sets __vx_token_problem to gone (missing, or not a regular file), unsafe, foreign or
# unreadable. The folders are checked first, because after that no other user can exchange the file between its
# checks and the read.
function __vx_token_load_file
    set -gu __vx_token_content_read
    set -gu __vx_token_problem
    if not test -f $__vx_token_path_found
        set __vx_token_problem gone
    else if not __vx_token_folder_is_safe (string replace -r '/[^/]*$' '' -- $__vx_token_path_found)
        set __vx_token_problem unsafe
    else if not test -O $__vx_token_path_found
        set __vx_token_problem foreign
    else if not test -r $__vx_token_path_found
        set __vx_token_problem unreadable
    else
        read -z __vx_token_content_read <$__vx_token_path_found
    end
end

# Fails when another user can write to the folder $argv[1] or replace it. The result of check_folder holds until the
# folder changes. Our entries in sticky folders are checked each time, because another user can create an entry
# again once it has been removed.
function __vx_token_folder_is_safe
    test "$argv[1]" = "$__vx_token_safe_folder"; or __vx_token_check_folder $argv[1]; or return 1
    for part in $__vx_token_sticky_entries
        test -O $part -a ! -L $part; or return 1
    end
end

# Checks each folder and link on the path to $argv[1], both as written and with links resolved. All must belong to
# the user or root. Only sticky folders may be writable by others, and our entry in a sticky folder must not be a
# link. fish cannot read permissions, so `ls` does, once for each folder.
function __vx_token_check_folder
    set -gu __vx_token_safe_folder
    set -gu __vx_token_sticky_entries
    set -l parts /
    set -l paths $argv[1] (builtin realpath -- $argv[1]); and not test -k $argv[1]; or return 1
    test "$paths[1]" = "$paths[2]"; and set -e paths[2]
    for path in $paths
        while string match -qr '^/.*[^/]' -- $path
            set -a parts $path
            set -l folder (string replace -r '/+[^/]*$' '' -- $path)
            if test -k "$folder/" -a -O $path
                test -L $path; and return 1
                set -a __vx_token_sticky_entries $path
            end
            set path $folder
        end
    end
    set -l lines
    for program in ls /bin/ls
        set lines (command $program -dlnq -- $parts 2>/dev/null); and break
    end
    test (builtin count $lines) -eq (builtin count $parts); or return 1
    for line in $lines
        string match -qr "^(l|d....-..-|d........[tT])\\S* +\\S+ +(0|$EUID) " -- $line; or return 1
    end
    set -gu __vx_token_safe_folder $argv[1]
end

# Sets __vx_token_now to epoch seconds. fish has no clock without a fork, but `path` prints when a folder changed
# and how long ago that was; the sum is the time of day.
function __vx_token_read_clock
    if set -l changed (__vx_token_builtin_path mtime /)
        set -gu __vx_token_now (builtin math $changed + (__vx_token_builtin_path mtime --relative /))
    else
        set -gu __vx_token_now (command date +%s)
    end
end

# --- Parsing the file ---------------------------------------------------------------------------------------------

# Parses the file if it has changed. The offer is the content of the last valid file. A malformed file does not come
# from the daemon, so the offer stays in use until its token expires.
function __vx_token_update_offer
    if test "$__vx_token_path_found" != "$__vx_token_file"
        set -gu __vx_token_file $__vx_token_path_found
        __vx_token_clear_offer
    end
    if test -n "$__vx_token_problem"
        __vx_token_clear_offer
    else if test "$__vx_token_content_read" != "$__vx_token_content" -o -z "$__vx_token_content_read"
        set -l lines (string split \n -- $__vx_token_content_read)
        if test "$lines[-1]" = ''; and __vx_token_parse_file $lines[1..-2]
            set __vx_token_content $__vx_token_content_read
        else
            set __vx_token_content
            set __vx_token_problem malformed
        end
    end
end

# Replaces the offer by the parsed file, or fails and changes nothing. The end marker in the last line detects a
# truncated file.
function __vx_token_parse_file
    set -l names
    set -l values
    set -l head
    test (builtin count $argv) -ge 3; and test "$argv[1]" = '# vx-token env.fish 1' -a "$argv[-1]" = '# end'; or return 1
    not string match -qr '[[:cntrl:]]' -- $argv; or return 1
    for line in $argv[2..-2]
        switch $line
            case '# end'
                return 1
            case '#*'
                set -a head $line
            case '*'
                set -l pair (__vx_token_parse_export $line); or return 1
                not builtin contains -- $pair[1] $names; or return 1
                set -a names $pair[1]
                set -a values $pair[2]
        end
    end
    set -l profile (string replace -fr '^# profile: ([A-Za-z0-9._-]+)$' '$1' -- $head); or return 1
    set -l word (string replace -fr '^# status: (fresh|retrying|login|expired)$' '$1' -- $head); or return 1
    set -l expires (string replace -fr '^# expires: ([0-9]{1,12})$' '$1' -- $head); or return 1
    set -l mode (string replace -fr '^# mode: (direct|gateway)$' '$1' -- $head); or return 1
    __vx_token_clear_offer
    set -gu __vx_token_profile $profile[1]
    set -gu __vx_token_status $word[1]
    set -gu __vx_token_expires $expires[1]
    set -gu __vx_token_mode $mode[1]
    set -gu __vx_token_notice (string replace -fr '^# notice: ' '' -- $head)
    for name in $names
        set -gu __vx_token_offer_$name $values[1]
        set -e values[1]
    end
    set -gu __vx_token_names $names
end

# Parses a line `set -gx NAME 'value'` in $argv[1] and prints the name and the value; fails on anything else.
function __vx_token_parse_export
    set -l parts (string match -r "^set -gx ([^ ]+) '([^']+)'\$" -- $argv[1])
    and __vx_token_is_allowed_name $parts[2]
    and builtin printf '%s\n' $parts[2] (string replace -a '\\\\' '\\' -- $parts[3])
end

# Checks that a file may set the variable $argv[1]. The rule allows forms of names, as `exportable` in presets.py
# does, because a list of all variables that shells, loaders and interpreters act on can never be complete.
function __vx_token_is_allowed_name
    builtin contains -- "$argv[1]" VX_TOKEN_EXPIRES_AT GPTME_OPENAI_RESPONSES_API no_proxy; and return 0
    string match -qr '^[A-Za-z_][A-Za-z0-9_]*$' -- $argv[1]
    and not builtin contains -- "$argv[1]" API_BASE_URL OPENAI_CUSTOM_HEADERS OPENAI_ORG_ID OPENAI_PROJECT_ID
    and not string match -qr '^(_|LD_|DYLD_|GLIBC_|MALLOC_|BASH|ZSH|zsh|FISH|fish|COMP_|HIST)' -- $argv[1]
    and not string match -qr '^(PYTHON|PERL|RUBY|NODE_|NPM_|PIP_|UV_|JAVA|GIT_|SSH_|VX_TOKEN_)' -- $argv[1]
    and string match -qr '^OPENAI_|_(KEY|TOKEN|URL|URI|BASE|HOST|ENDPOINT|MODEL|PROVIDER|PROJECT|LOCATION|REGION|TIMEOUT|PROXY)$' -- $argv[1]
end

# Forgets the last file.
function __vx_token_clear_offer
    for name in $__vx_token_names
        set -eg __vx_token_offer_$name
    end
    set -gu __vx_token_names
    set -gu __vx_token_content
    set -gu __vx_token_profile
    set -gu __vx_token_status
    set -gu __vx_token_mode
    set -gu __vx_token_notice
    set -gu __vx_token_expires 0
end

# --- Deciding whose values the variables have ---------------------------------------------------------------------

# Sets the variables of the offer. Sets none of them if the user has set a route (see is_route).
function __vx_token_apply_offer
    if __vx_token_classify
        __vx_token_withdraw __vx_token_restore $__vx_token_names
        for name in $__vx_token_names
            set -l offer __vx_token_offer_$name
            builtin contains -- $name $__vx_token_skip; or __vx_token_set_variable $name $$offer
        end
    else
        __vx_token_withdraw __vx_token_restore
    end
    __vx_token_export_marker
end

# Inspects each offered variable before any is set. Sets aside a value from before the hook. Lists variables that
# the user has set since in __vx_token_skip; when such a variable is a route, fails with its name in
# __vx_token_state. Values that were handed over are never set aside, because vx-token-off must not restore an old
# token.
function __vx_token_classify
    set -l handed_over no
    __vx_token_is_handed_over; and set handed_over yes
    set -gu __vx_token_skip
    for name in $__vx_token_names
        set -l place unseen
        builtin contains -- $name $__vx_token_seen; and set place seen
        test $place$handed_over = unseenyes; and not set -q __vx_token_overriding; and set place handed_over
        if not set -qg $name; or __vx_token_is_ours $name
            continue
        else if __vx_token_is_aside $name
            __vx_token_set_aside $name
        else if __vx_token_is_replaceable $name $handed_over
            continue
        else if test $place != unseen; and __vx_token_is_route $name
            set -gu __vx_token_state "paused $name"
            return 1
        else if test $place = seen
            set -a __vx_token_skip $name
        else if test $handed_over = no; or not __vx_token_is_route $name
            __vx_token_set_aside $name
        end
    end
end

# Checks that the value of $argv[1] is ours, current or earlier. direnv and tmux restore old environments.
function __vx_token_is_ours
    set -l held __vx_token_held_$argv[1]
    test "$$argv[1]" = "$$held"; and builtin contains -- $argv[1] $__vx_token_held
    or builtin contains -- "$argv[1]=$$argv[1]" $__vx_token_past
end

# Checks whether $argv[1] has the value that was set aside, here or in a parent shell. It gets that value again when
# a start-up file is read again.
function __vx_token_is_aside
    set -l value __vx_token_aside_$argv[1]
    builtin contains -- $argv[1]~(__vx_token_fingerprint "$$argv[1]") $__vx_token_fingerprints; or return 1
    if builtin contains -- $argv[1] $__vx_token_aside
        test "$$value" = "$$argv[1]"
    else
        not builtin contains -- $argv[1] $__vx_token_seen
    end
end

# Checks whether VX_TOKEN_EXPIRES_AT comes from elsewhere. If so, the key does too: from `vx-token env`, `vx-token
# exec` or a sourced file.
function __vx_token_is_handed_over
    test -n "$VX_TOKEN_EXPIRES_AT" -a "$VX_TOKEN_EXPIRES_AT" != "$__vx_token_held_VX_TOKEN_EXPIRES_AT"
end

# Checks whether the value of the offered variable $argv[1] may be replaced although this shell did not set it. That
# is so if it equals the offered value, or if it was handed over ($argv[2] is yes) together with our URL. A token
# with another URL belongs to another profile or project, so it stays.
function __vx_token_is_replaceable
    set -l key $__vx_token_offer_OPENAI_API_KEY
    set -l offer __vx_token_offer_$argv[1]
    test $argv[1] = VX_TOKEN_EXPIRES_AT; and return 0
    if test "$$argv[1]" = "$$offer"
        test "$argv[2]" = yes -o "$$offer" = "$key"; or builtin contains -- $argv[1] $__vx_token_seen
    else
        test "$argv[2]" = yes -a -n "$key" -a "$OPENAI_BASE_URL" = "$__vx_token_offer_OPENAI_BASE_URL"
        and string match -qr -- (string escape --style=regex -- "$key") "$$offer"
    end
end

# Checks whether the offered variable $argv[1] is a URL or the key. Such variables are all set or all left alone,
# because our key must never be sent to another URL.
function __vx_token_is_route
    set -l offer __vx_token_offer_$argv[1]
    string match -qr '^https?://' -- $$offer
    or test "$$offer" = "$__vx_token_offer_OPENAI_API_KEY"
end

# --- Setting, unsetting and restoring variables -------------------------------------------------------------------

# Sets $argv[1] to the value $argv[2] and records it as ours.
function __vx_token_set_variable
    set -l held __vx_token_held_$argv[1]
    set -gx $argv[1] $argv[2]
    builtin contains -- $argv[1] $__vx_token_seen; or set -ga __vx_token_seen $argv[1]
    if not builtin contains -- $argv[1] $__vx_token_held
        set -ga __vx_token_held $argv[1]
    else if test "$$held" != "$argv[2]"
        __vx_token_record_past $argv[1]
    end
    set -gu $held $argv[2]
end

# Stores the user's value of $argv[1], and whether it was exported, for vx-token-off.
function __vx_token_set_aside
    set -gu __vx_token_aside_$argv[1] $$argv[1]
    set -gu __vx_token_aside_flag_$argv[1] --unexport
    set -qgx $argv[1]; and set -gu __vx_token_aside_flag_$argv[1] --export
    builtin contains -- $argv[1] $__vx_token_aside; or set -a __vx_token_aside $argv[1]
    set -l fingerprint $argv[1]~(__vx_token_fingerprint "$$argv[1]")
    set -q __vx_token_overriding; or builtin contains -- $fingerprint $__vx_token_fingerprints; or set -ga __vx_token_fingerprints $fingerprint
end

# Restores the user's value of $argv[1] or unsets it. Afterwards the variable is treated as if the hook had never
# seen it.
function __vx_token_restore
    set -eg $argv[1]
    set -l at (builtin contains -i -- $argv[1] $__vx_token_aside); or return 0
    set -l value __vx_token_aside_$argv[1]
    set -l flag __vx_token_aside_flag_$argv[1]
    set -g $$flag $argv[1] $$value
    set -eg $value
    set -eg $flag
    set -e __vx_token_aside[$at]
    set at (builtin contains -i -- $argv[1] $__vx_token_seen); and set -e __vx_token_seen[$at]
end

# Removes our variables from the environment with the function $argv[1] (unset or restore), except the names
# $argv[2] and following. Values that the user has set in their place stay.
function __vx_token_withdraw
    set -l rest
    for name in $__vx_token_held
        if builtin contains -- $name $argv[2..]
            set -a rest $name
            continue
        end
        set -qg $name; and __vx_token_is_ours $name; and $argv[1] $name
        __vx_token_record_past $name
        set -eg __vx_token_held_$name
    end
    set -gu __vx_token_held $rest
end

# Stores the previous value of $argv[1] for is_ours; the last 32 are kept.
function __vx_token_record_past
    set -l held __vx_token_held_$argv[1]
    set -gu __vx_token_past $__vx_token_past[-31..-1] "$argv[1]=$$held"
end

# Unsets $argv[1].
function __vx_token_unset
    set -eg $argv[1]
end

# Adds 127.0.0.1 and localhost to NO_PROXY while a proxy is set ($argv[1] is add), because requests to the gateway
# must not go through a proxy, or removes them. They are a suffix, so that removing them restores the user's value.
function __vx_token_update_no_proxy
    set -l suffix 127.0.0.1,localhost
    for name in NO_PROXY no_proxy
        if test $argv[1] = add
            test -n "$HTTP_PROXY$http_proxy$HTTPS_PROXY$https_proxy$ALL_PROXY$all_proxy"; or continue
            test "$$name" != '*'; and not string match -q '*,127.0.0.1,*' -- ",$$name,"; or continue
            set -gx $name (string join , -- $$name $suffix)
            set -ga __vx_token_proxied $name
        else if builtin contains -- $name $__vx_token_proxied; and string match -q "*$suffix" -- "$$name"
            set -gx $name (string replace -r ",?$suffix\$" '' -- $$name)
            test -n "$$name"; or set -eg $name
        end
    end
    test $argv[1] = add; or set -gu __vx_token_proxied
end

# --- Child shells -------------------------------------------------------------------------------------------------

# Exports VX_TOKEN_HOOK, which shows child shells that there is a hook and whose values the variables have: ours
# (`NAME:` and the fingerprint), set by the user or missing (`NAME:` alone), or set aside (`NAME~` and the
# fingerprint).
function __vx_token_export_marker
    set -l marker 1
    for name in $__vx_token_seen
        set -l held __vx_token_held_$name
        set -l fingerprint
        builtin contains -- $name $__vx_token_held; and set fingerprint (__vx_token_fingerprint "$$held")
        set -a marker "$name:$fingerprint"
    end
    set marker (string join ' ' -- $marker $__vx_token_fingerprints)' '
    test "$VX_TOKEN_HOOK" = "$marker"; or set -gx VX_TOKEN_HOOK $marker
end

# Reads the marker of the parent shell. A variable that matches is ours. One that matches a value set aside was set
# again by a start-up file, and is set aside again. Any other was set for this shell by the user.
function __vx_token_import_marker
    set -l words (string split -n ' ' -- $VX_TOKEN_HOOK)
    for word in $words
        set -l name (string replace -r '[:~].*' '' -- $word)
        __vx_token_is_allowed_name "$name"; or continue
        string match -q '*~*' -- $word; and set -ga __vx_token_fingerprints $word
        set -qg $name; or continue
        set -l fingerprint (__vx_token_fingerprint "$$name")
        if builtin contains -- $name:$fingerprint $words
            __vx_token_set_variable $name "$$name"
        else if not builtin contains -- $name~$fingerprint $words; and not builtin contains -- $name $__vx_token_seen
            set -ga __vx_token_seen $name
        end
    end
end

# Prints the length and the last four characters of the ASCII part of $argv[1]. Child shells recognize a value by
# that, in any locale, and the marker need not hold a second copy of the token.
function __vx_token_fingerprint
    set -l text (string replace -ra -- '[^!-~]' '' $argv[1])
    set -l length (string length -- $text)
    set -l tail
    test "$length" -ge 4; and set tail (string sub -s -4 -- $text)
    builtin echo "$length:$tail"
end

# --- Status and notices -------------------------------------------------------------------------------------------

# Exports VX_TOKEN_STATUS for prompts: `gemini 42m`, `gemini gateway`, `gemini login`, `gemini expired`, `gemini
# paused`.
function __vx_token_set_status
    set -l text
    switch $__vx_token_state
        case ok malformed
            set text gateway
            test "$__vx_token_mode" = gateway
            or set text (builtin math --scale 0 "($__vx_token_expires - $__vx_token_now) / 60")m
        case login expired
            set text $__vx_token_state
        case 'paused*'
            set text paused
    end
    if test -n "$text" -a -n "$__vx_token_profile"
        test "$VX_TOKEN_STATUS" = "$__vx_token_profile $text"; or set -gx VX_TOKEN_STATUS "$__vx_token_profile $text"
    else
        set -eg VX_TOKEN_STATUS
    end
end

# Prints one line when the state differs from the last one printed. Before the first prompt it prints nothing,
# because powerlevel10k's instant prompt warns about any output there.
function __vx_token_notify
    if test -z "$__vx_token_notified"
        set __vx_token_notified gone
        return
    end
    set __vx_token_notified $__vx_token_state
    set -l text
    switch $__vx_token_state
        case ok
            return
        case login
            set text $__vx_token_notice 'a login is required; run: vx-token status'
        case expired
            set text "the token of $__vx_token_profile has expired; run: vx-token status"
        case gone
            set text "$__vx_token_file does not exist, so the variables are unset; run: vx-token status"
        case unsafe
            set text "$__vx_token_file is ignored because other users can replace it; run: vx-token status"
        case foreign
            set text "$__vx_token_file is ignored because it belongs to another user"
        case unreadable
            set text "$__vx_token_file cannot be read"
        case malformed
            set text "$__vx_token_file is ignored because its format is invalid"
        case 'paused*'
            set text (string replace 'paused ' '' -- $__vx_token_state)" was set in this shell and wins; run vx-token-on to resume"
    end
    test -t 2; and builtin printf 'vx-token: %s\n' $text[1] >&2
end

# --- Commands for the user ----------------------------------------------------------------------------------------

function vx-token-off --description 'Remove the variables of vx-token, and its hook, from this shell'
    set -l fish_trace
    set -lx IFS \n
    __vx_token_withdraw __vx_token_restore
    for name in $__vx_token_aside
        set -qg $name; or __vx_token_restore $name
    end
    __vx_token_withdraw_token
    __vx_token_unregister
    set -eg __vx_token_fingerprints
    if set -q __vx_token_prior_profile
        set -eg VX_TOKEN_PROFILE
        set -q __vx_token_prior_profile[1]; and set -gx VX_TOKEN_PROFILE $__vx_token_prior_profile
        set -eg __vx_token_prior_profile
    end
    set -eg VX_TOKEN_STATUS
    set -eg VX_TOKEN_HOOK
    set -gu __vx_token_off yes
end

# A value that the user has set in the meantime is set aside.
function vx-token-on --description 'Set the variables of vx-token in this shell again'
    set -l fish_trace
    set -lx IFS \n
    __vx_token_reset gone
    set -gu __vx_token_overriding yes
    __vx_token_update_variables
    set -eg __vx_token_overriding
    status is-interactive; and __vx_token_register
    return 0
end

function vx-token-use --description 'Switch this shell to another profile, or to the default profile' --argument-names profile
    set -l fish_trace
    set -lx IFS \n
    test -n "$profile"; or set -l profile default
    __vx_token_find_file $profile
    set -l folder (string replace -r '/[^/]*$' '' -- $__vx_token_path_found)
    if not string match -qr '^[A-Za-z0-9_][A-Za-z0-9._-]*$' -- $profile; or not test -d $folder
        builtin printf '%s\n' "vx-token: profile "(string escape -- $profile)" does not exist" 'hint: run vx-token status to list the profiles, or vx-token refresh --profile NAME to fetch a first token' >&2
        return 1
    end
    set -q __vx_token_prior_profile; or set -gu __vx_token_prior_profile $VX_TOKEN_PROFILE
    if set -q argv[1]
        set -gx VX_TOKEN_PROFILE $profile
    else
        set -eg VX_TOKEN_PROFILE
    end
    set -q __vx_token_off; or __vx_token_update_variables
end

# Forgets all state but the user's values. $argv[1] is the state last printed, empty in a new shell: see notify.
function __vx_token_reset
    set -gu __vx_token_file
    set -gu __vx_token_notified $argv[1]
    set -gu __vx_token_valid_until 0
    set -gu __vx_token_seen
    set -eg __vx_token_off
    __vx_token_clear_offer
end

# --- Older shells -------------------------------------------------------------------------------------------------

# Without /proc (macOS, FreeBSD) the clock is the time since the root folder changed. On macOS it never changes.
if not test -r /proc/uptime
    function __vx_token_read_uptime
        set -gu __vx_token_uptime (__vx_token_builtin_path mtime --relative /)
    end
end

# Runs the builtin `path` if it exists (fish 3.5 and later). It is called through a variable, because an older fish
# rejects a whole file that names an unknown builtin.
function __vx_token_builtin_path
    set -l path path
    builtin contains -- $path (builtin -n); and builtin $path $argv 2>/dev/null
end

# --- Loading ------------------------------------------------------------------------------------------------------

# Runs once when the file is sourced; sourcing it again only updates.
function __vx_token_start
    set -l fish_trace
    set -lx IFS \n
    if not set -q __vx_token_loaded
        set -gu __vx_token_held
        set -gu __vx_token_aside
        set -gu __vx_token_past
        set -gu __vx_token_proxied
        __vx_token_reset ''
        __vx_token_import_marker
        set -gu __vx_token_loaded yes
    end
    not set -q __vx_token_off; or return 0
    __vx_token_update_variables
    status is-interactive; and __vx_token_register
    return 0
end
__vx_token_start
