# vx-token for fish: keeps OPENAI_API_KEY and its companions fresh in the live shell.
#
# The runtime file <runtime>/<profile>/env.fish is read as data at each prompt and before each command. Nothing in it is
# executed, and only builtins run, which never fork in fish. Only the variables of the file itself are exported; a
# universal variable of the same name is covered by our global one and shows again after vx-token-off. docs/shell.md
# tells the whole story.

# --- at each prompt ------------------------------------------------------------------------------------------------

# What runs at each prompt comes first in this file, because before each command of a function fish counts the lines of
# the file down to it.

# A local, empty fish_trace keeps values out of a trace; an exported local reaches the functions that are called, and an
# empty IFS would keep substitutions from being split. fish itself keeps $status and $pipestatus around events.
function __vx_token_register
    function __vx_token_preexec --on-event fish_preexec
        set -l fish_trace
        __vx_token_unchanged; or __vx_token_refresh
    end
    function __vx_token_prompt --on-event fish_prompt
        set -l fish_trace
        __vx_token_unchanged; or __vx_token_look
    end
end

# Is all as the last look noted it: the text of the file, and each variable on which its place or the look depends? Nearly
# always it is, so this is one function of few commands. A folder of a higher rank than the file's may appear at any time.
function __vx_token_unchanged
    for part in $__vx_token_entries
        test -O $part -a ! -L $part; or return 1
    end
    test -f "$__vx_token_file" -a -O "$__vx_token_file" -a -r "$__vx_token_file" -a ! -d "$__vx_token_above[1]" -a ! -d "$__vx_token_above[2]"
    and read -l -z text <$__vx_token_file; or return 1
    set -l values $$__vx_token_watched
    test "$text$values" = "$__vx_token_noted"; or return 1
    __vx_token_clock
    test $__vx_token_age -ge $__vx_token_from -a $__vx_token_age -lt $__vx_token_until
end

# Sets __vx_token_age to seconds that pass as fast as a clock's: since the system started, where /proc tells them, else
# since the root folder changed, which it never does where there is no /proc (a Mac's is sealed).
if test -r /proc/uptime
    function __vx_token_clock
        read -l -d ' ' age rest </proc/uptime
        set -gu __vx_token_age $age
    end
else
    function __vx_token_clock
        set -gu __vx_token_age (__vx_token_path mtime --relative /)
    end
end

# The builtin `path` came with fish 3.5, and an older fish refuses a whole file that calls an unknown builtin by its name.
function __vx_token_path
    set -l path path
    builtin contains -- $path (builtin -n); and builtin $path $argv 2>/dev/null
end

# Sets __vx_token_place to the file of profile $argv[1]. The order is the program's own: explicit folder, XDG, the per-user folder, tmp.
function __vx_token_find
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
    set -gu __vx_token_place $folder/$argv[1]/env.fish
end

# Fails when another user can write to the folder $argv[1] or replace it. The check holds until the folder changes, but
# for an entry of ours in a sticky folder: once it is removed, another user can make it anew, hence a look at each time.
function __vx_token_way_is_safe
    test "$argv[1]" = "$__vx_token_safe"; or __vx_token_check_way $argv[1]; or return 1
    for part in $__vx_token_entries
        test -O $part -a ! -L $part; or return 1
    end
end

# Each folder and link on the way to $argv[1], as it is written and with the links resolved, must be ours or root's, and
# others may write only to sticky folders, where our entry must be no link. fish itself cannot read permissions, so `ls`
# does, once for each folder.
function __vx_token_check_way
    set -gu __vx_token_safe
    set -gu __vx_token_entries
    set -l parts /
    set -l ways $argv[1] (builtin realpath -- $argv[1]); and not test -k $argv[1]; or return 1
    test "$ways[1]" = "$ways[2]"; and set -e ways[2]
    for way in $ways
        while string match -qr '^/.*[^/]' -- $way
            set -a parts $way
            set -l folder (string replace -r '/+[^/]*$' '' -- $way)
            if test -k "$folder/" -a -O $way
                test -L $way; and return 1
                set -a __vx_token_entries $way
            end
            set way $folder
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
    set -gu __vx_token_safe $argv[1]
end

# Sets __vx_token_problem to why a file must not be read: `gone` (or not a plain file), `foreign`, `unreadable`,
# `unsafe`. The folders come first: after that no other user can put something else in the file's place.
function __vx_token_check_file
    set -gu __vx_token_problem
    if not test -f $argv[1]
        set __vx_token_problem gone
    else if not __vx_token_way_is_safe (string replace -r '/[^/]*$' '' -- $argv[1])
        set __vx_token_problem unsafe
    else if not test -O $argv[1]
        set __vx_token_problem foreign
    else if not test -r $argv[1]
        set __vx_token_problem unreadable
    end
end

# --- where the file is, and what it says -------------------------------------------------------------------------

# Sets __vx_token_now to epoch seconds. fish has no clock of its own, but knows when a folder changed and how long ago
# that was.
function __vx_token_time
    if set -l changed (__vx_token_path mtime /)
        set -gu __vx_token_now (builtin math $changed + (__vx_token_path mtime --relative /))
    else
        set -gu __vx_token_now (command date +%s)
    end
end

# Sets __vx_token_read to the text of the file, or __vx_token_problem to what kept it from that.
function __vx_token_look_at_file
    set -l profile default
    test -n "$VX_TOKEN_PROFILE"; and set profile $VX_TOKEN_PROFILE
    __vx_token_find $profile
    __vx_token_check_file $__vx_token_place
    set -gu __vx_token_read
    test -z "$__vx_token_problem"; and read -z __vx_token_read <$__vx_token_place
end

# Is $argv[1] a name that a file may set? Names are allowed by their form, as `exportable` in presets.py allows them: no
# list of the names on which shells, loaders and interpreters act is ever complete.
function __vx_token_may_set
    builtin contains -- "$argv[1]" VX_TOKEN_EXPIRES_AT GPTME_OPENAI_RESPONSES_API no_proxy; and return 0
    string match -qr '^[A-Za-z_][A-Za-z0-9_]*$' -- $argv[1]
    and not builtin contains -- "$argv[1]" API_BASE_URL OPENAI_CUSTOM_HEADERS OPENAI_ORG_ID OPENAI_PROJECT_ID
    and not string match -qr '^(_|LD_|DYLD_|GLIBC_|MALLOC_|BASH|ZSH|zsh|FISH|fish|COMP_|HIST)' -- $argv[1]
    and not string match -qr '^(PYTHON|PERL|RUBY|NODE_|NPM_|PIP_|UV_|JAVA|GIT_|SSH_|VX_TOKEN_)' -- $argv[1]
    and string match -qr '^OPENAI_|_(KEY|TOKEN|URL|URI|BASE|HOST|ENDPOINT|MODEL|PROVIDER|PROJECT|LOCATION|REGION|TIMEOUT|PROXY)$' -- $argv[1]
end

# Reads a `set -gx NAME 'value'` line and prints the name and the value; fails on anything else.
function __vx_token_parse_export
    set -l parts (string match -r "^set -gx ([^ ]+) '([^']+)'\$" -- $argv[1])
    and __vx_token_may_set $parts[2]
    and builtin printf '%s\n' $parts[2] (string replace -a '\\\\' '\\' -- $parts[3])
end

# Takes the lines over as the offer, all of them or nothing; a missing last line shows a truncated file.
function __vx_token_parse
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
    __vx_token_forget
    set -gu __vx_token_profile $profile[1]
    set -gu __vx_token_word $word[1]
    set -gu __vx_token_expires $expires[1]
    set -gu __vx_token_mode $mode[1]
    set -gu __vx_token_notice (string replace -fr '^# notice: ' '' -- $head)
    for name in $names
        set -gu __vx_token_offer_$name $values[1]
        set -e values[1]
    end
    set -gu __vx_token_names $names
end

function __vx_token_forget
    for name in $__vx_token_names
        set -eg __vx_token_offer_$name
    end
    set -gu __vx_token_names
    set -gu __vx_token_text
    set -gu __vx_token_profile
    set -gu __vx_token_word
    set -gu __vx_token_mode
    set -gu __vx_token_notice
    set -gu __vx_token_expires 0
end

# Brings the offer up to date with the file that __vx_token_look_at_file has read. A malformed file leaves the last good
# offer in place: whoever wrote it is not the daemon, and the token in hand still lives.
function __vx_token_load_offer
    if test "$__vx_token_place" != "$__vx_token_file"
        set -gu __vx_token_file $__vx_token_place
        __vx_token_forget
    end
    if test -n "$__vx_token_problem"
        __vx_token_forget
    else if test "$__vx_token_read" != "$__vx_token_text" -o -z "$__vx_token_read"
        set -l lines (string split \n -- $__vx_token_read)
        if test "$lines[-1]" = ''; and __vx_token_parse $lines[1..-2]
            set __vx_token_text $__vx_token_read
        else
            set __vx_token_text
            set __vx_token_problem malformed
        end
    end
end

# --- whose value is it -------------------------------------------------------------------------------------------

# Is the global value of $argv[1] ours, now or earlier (direnv and tmux bring old environments back)?
function __vx_token_owns
    set -l held __vx_token_held_$argv[1]
    test "$$argv[1]" = "$$held"; and builtin contains -- $argv[1] $__vx_token_held
    or builtin contains -- "$argv[1]=$$argv[1]" $__vx_token_past
end

# Remembers the last values that were ours.
function __vx_token_remember
    set -l held __vx_token_held_$argv[1]
    set -gu __vx_token_past $__vx_token_past[-31..-1] "$argv[1]=$$held"
end

# Does the offered value of $argv[1] decide who is asked, or with which key? Such variables move together or not at all.
function __vx_token_is_route
    set -l offer __vx_token_offer_$argv[1]
    string match -qr '^https?://' -- $$offer
    or test "$$offer" = "$__vx_token_offer_OPENAI_API_KEY"
end

# Keeps the user's global value of $argv[1] aside, and whether it was exported.
function __vx_token_keep
    set -gu __vx_token_user_$argv[1] $$argv[1]
    set -gu __vx_token_flag_$argv[1] --unexport
    set -qgx $argv[1]; and set -gu __vx_token_flag_$argv[1] --export
    builtin contains -- $argv[1] $__vx_token_user; or set -a __vx_token_user $argv[1]
    set -l print $argv[1]~(__vx_token_fingerprint "$$argv[1]")
    set -q __vx_token_taking; or builtin contains -- $print $__vx_token_prints; or set -ga __vx_token_prints $print
end

# Erases $argv[1], or sets it as the user had it; from then on it is the user's own affair, as if never seen.
function __vx_token_give_back
    set -eg $argv[1]
    set -l at (builtin contains -i -- $argv[1] $__vx_token_user); or return 0
    set -l value __vx_token_user_$argv[1]
    set -l flag __vx_token_flag_$argv[1]
    set -g $$flag $argv[1] $$value
    set -eg $value
    set -eg $flag
    set -e __vx_token_user[$at]
    set at (builtin contains -i -- $argv[1] $__vx_token_seen); and set -e __vx_token_seen[$at]
end

function __vx_token_unset
    set -eg $argv[1]
end

# Takes the held variables out of the environment, except the names $argv[2..], by `__vx_token_unset` or
# `__vx_token_give_back` ($argv[1]). What the user has put in their place stays.
function __vx_token_withdraw
    set -l rest
    for name in $__vx_token_held
        if builtin contains -- $name $argv[2..]
            set -a rest $name
            continue
        end
        set -qg $name; and __vx_token_owns $name; and $argv[1] $name
        __vx_token_remember $name
        set -eg __vx_token_held_$name
    end
    set -gu __vx_token_held $rest
end

# Was VX_TOKEN_EXPIRES_AT set by others than us? Then so was the key: by `vx-token env`, `exec` or a sourced file.
function __vx_token_is_handed
    test -n "$VX_TOKEN_EXPIRES_AT" -a "$VX_TOKEN_EXPIRES_AT" != "$__vx_token_held_VX_TOKEN_EXPIRES_AT"
end

# Is what is in the place of the offered $argv[1] ours as well? The offered value itself is, and a token that was handed
# over ($argv[2] is yes) together with our URL; one with another URL was asked for another profile or project, so it stays.
function __vx_token_is_same
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

# Is the value of $argv[1] the one that was kept aside, here or in a parent, because a start-up file was read again?
function __vx_token_is_kept
    set -l value __vx_token_user_$argv[1]
    builtin contains -- $argv[1]~(__vx_token_fingerprint "$$argv[1]") $__vx_token_prints; or return 1
    if builtin contains -- $argv[1] $__vx_token_user
        test "$$value" = "$$argv[1]"
    else
        not builtin contains -- $argv[1] $__vx_token_seen
    end
end

# Looks at each offered name before any is set: keeps a value from before our time aside, lists in __vx_token_skip what
# the user has set since, and fails, with the name in __vx_token_state, when that is a route. What was handed over is
# never kept: a token of ours is nothing to give back.
function __vx_token_survey
    set -l handed no
    __vx_token_is_handed; and set handed yes
    set -gu __vx_token_skip
    for name in $__vx_token_names
        set -l place unseen
        builtin contains -- $name $__vx_token_seen; and set place seen
        test $place$handed = unseenyes; and not set -q __vx_token_taking; and set place handed
        if not set -qg $name; or __vx_token_owns $name
            continue
        else if __vx_token_is_kept $name
            __vx_token_keep $name
        else if __vx_token_is_same $name $handed
            continue
        else if test $place != unseen; and __vx_token_is_route $name
            set -gu __vx_token_state "paused $name"
            return 1
        else if test $place = seen
            set -a __vx_token_skip $name
        else if test $handed = no; or not __vx_token_is_route $name
            __vx_token_keep $name
        end
    end
end

# Puts one variable into the environment and remembers that it is ours.
function __vx_token_put
    set -l held __vx_token_held_$argv[1]
    set -gx $argv[1] $argv[2]
    builtin contains -- $argv[1] $__vx_token_seen; or set -ga __vx_token_seen $argv[1]
    if not builtin contains -- $argv[1] $__vx_token_held
        set -ga __vx_token_held $argv[1]
    else if test "$$held" != "$argv[2]"
        __vx_token_remember $argv[1]
    end
    set -gu $held $argv[2]
end

# Makes the environment say what the offer says, or, when it cannot all be said, nothing of it.
function __vx_token_apply
    if __vx_token_survey
        __vx_token_withdraw __vx_token_give_back $__vx_token_names
        for name in $__vx_token_names
            set -l offer __vx_token_offer_$name
            builtin contains -- $name $__vx_token_skip; or __vx_token_put $name $$offer
        end
    else
        __vx_token_withdraw __vx_token_give_back
    end
    __vx_token_mark
end

# Prints how a child shell knows value $argv[1] again, in any locale: length and last four characters of its ASCII.
function __vx_token_fingerprint
    set -l text (string replace -ra -- '[^!-~]' '' $argv[1])
    set -l length (string length -- $text)
    set -l tail
    test "$length" -ge 4; and set tail (string sub -s -4 -- $text)
    builtin echo "$length:$tail"
end

# Tells child shells that there is a hook, and whose the values of which names are: ours (`NAME:` and the fingerprint),
# set by hand in this shell or not there (`NAME:` alone), or kept aside (`NAME~` and the fingerprint).
function __vx_token_mark
    set -l mark 1
    for name in $__vx_token_seen
        set -l held __vx_token_held_$name
        set -l print
        builtin contains -- $name $__vx_token_held; and set print (__vx_token_fingerprint "$$held")
        set -a mark "$name:$print"
    end
    set mark (string join ' ' -- $mark $__vx_token_prints)' '
    test "$VX_TOKEN_HOOK" = "$mark"; or set -gx VX_TOKEN_HOOK $mark
end

# Reads the parent's mark: a value that fits is ours already; one that the parent kept aside was set again by a start-up
# file and is kept again; any other was put there for this shell by hand.
function __vx_token_inherit
    set -l words (string split -n ' ' -- $VX_TOKEN_HOOK)
    for word in $words
        set -l name (string replace -r '[:~].*' '' -- $word)
        __vx_token_may_set "$name"; or continue
        string match -q '*~*' -- $word; and set -ga __vx_token_prints $word
        set -qg $name; or continue
        set -l print (__vx_token_fingerprint "$$name")
        if builtin contains -- $name:$print $words
            __vx_token_put $name "$$name"
        else if not builtin contains -- $name~$print $words; and not builtin contains -- $name $__vx_token_seen
            set -ga __vx_token_seen $name
        end
    end
end

# --- the one path --------------------------------------------------------------------------------------------------

# In gateway mode ($argv[1] is add) the loopback must not go through a proxy. What we add is a suffix.
function __vx_token_no_proxy
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

# Brings the variables up to date with the file. __vx_token_state becomes: ok, login, expired, malformed, gone, unsafe,
# foreign, unreadable or `paused NAME`.
function __vx_token_sync
    __vx_token_look_at_file
    __vx_token_time
    set -gu __vx_token_until 0
    __vx_token_load_offer
    set -gu __vx_token_state ok
    if not set -q __vx_token_names[1]
        set __vx_token_state expired
        test -n "$__vx_token_problem"; and set __vx_token_state $__vx_token_problem
        __vx_token_hide
    else if test "$__vx_token_mode" = direct -a $__vx_token_now -ge $__vx_token_expires
        set __vx_token_state expired
        __vx_token_hide
    else
        __vx_token_provide
    end
    test "$__vx_token_word" = login; and builtin contains -- $__vx_token_state ok expired
    and set __vx_token_state login
    return 0
end

# Nothing is alive: what we hold goes, and what the user had stays aside, for a dead token must not send the next
# command to another provider on another bill.
function __vx_token_hide
    __vx_token_withdraw __vx_token_unset
    __vx_token_no_proxy remove
    __vx_token_mark
end

function __vx_token_provide
    __vx_token_apply
    if test "$__vx_token_mode" = gateway -a "$__vx_token_state" = ok
        __vx_token_no_proxy add
    else
        __vx_token_no_proxy remove
    end
    test "$__vx_token_state" = ok -a -n "$__vx_token_problem"; and set __vx_token_state $__vx_token_problem
end

# VX_TOKEN_STATUS, for prompts: `gemini 42m`, `gemini gateway`, `gemini login`, `gemini expired`, `gemini paused`.
function __vx_token_show
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

# One line for the user when the state is not the one last told; nothing before the first prompt.
function __vx_token_tell
    if test -z "$__vx_token_said"
        set __vx_token_said gone
        return
    end
    set __vx_token_said $__vx_token_state
    set -l text
    switch $__vx_token_state
        case ok
            return
        case login
            set text $__vx_token_notice 'a human must log in; run: vx-token status'
        case expired
            set text "the token of $__vx_token_profile has ended and there is no new one; run: vx-token status"
        case gone
            set text "$__vx_token_file is gone, the variables are withdrawn; run: vx-token status"
        case unsafe
            set text "$__vx_token_file is ignored: other users can replace it; run: vx-token status"
        case foreign
            set text "$__vx_token_file belongs to another user and is ignored"
        case unreadable
            set text "$__vx_token_file cannot be read"
        case malformed
            set text "$__vx_token_file is not as vx-token writes it and is ignored"
        case 'paused*'
            set text (string replace 'paused ' '' -- $__vx_token_state)" was set in this shell and wins; to have ours back: vx-token-on"
    end
    test -t 2; and builtin printf 'vx-token: %s\n' $text[1] >&2
end

# --- where fish calls us -------------------------------------------------------------------------------------------

function __vx_token_refresh
    set -l fish_trace
    set -lx IFS \n
    __vx_token_sync
end

# The whole look at a prompt, where there is something to show and to tell as well.
function __vx_token_look
    set -l fish_trace
    set -lx IFS \n
    __vx_token_sync
    __vx_token_show
    test "$__vx_token_state" = "$__vx_token_said"; or __vx_token_tell
    __vx_token_note
end

# Notes what __vx_token_unchanged compares, good until the shown minutes change. What could not be read, or has not been
# told yet, is looked at again.
function __vx_token_note
    __vx_token_clock
    test -n "$__vx_token_text" -a -n "$__vx_token_age" -a "$__vx_token_state" = "$__vx_token_said"; or return 0
    set -gu __vx_token_watched VX_TOKEN_STATUS VX_TOKEN_RUNTIME_DIR VX_TOKEN_PROFILE $__vx_token_names
    set -gu __vx_token_above
    if test -z "$VX_TOKEN_RUNTIME_DIR"
        set -a __vx_token_watched XDG_RUNTIME_DIR TMPDIR TEMP TMP HOME
        if test -z "$XDG_RUNTIME_DIR"; or not string match -q -- "$XDG_RUNTIME_DIR/*" $__vx_token_file
            set -a __vx_token_above $XDG_RUNTIME_DIR
            string match -q -- "/run/user/$EUID/*" $__vx_token_file; or set -a __vx_token_above /run/user/$EUID
        end
    end
    # Of the second that has begun none may be left.
    set -l left "($__vx_token_expires - $__vx_token_now)"
    set -l life "min($left % 60, $left - 1)"
    if test "$__vx_token_mode" = gateway
        set life 60
        set -a __vx_token_watched HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy NO_PROXY no_proxy
    end
    set -l values $$__vx_token_watched
    set -gu __vx_token_noted "$__vx_token_text$values"
    set -gu __vx_token_from $__vx_token_age
    set -gu __vx_token_until (builtin math "$__vx_token_age + $life")
end

# --- what the user calls -------------------------------------------------------------------------------------------

# $argv[1] is the state last told: a new shell has told nothing yet, see __vx_token_tell.
function __vx_token_reset
    set -gu __vx_token_file
    set -gu __vx_token_said $argv[1]
    set -gu __vx_token_until 0
    set -gu __vx_token_seen
    set -eg __vx_token_off
    __vx_token_forget
end

function vx-token-off --description 'Take the variables of vx-token, and its hook, out of this shell'
    set -l fish_trace
    set -lx IFS \n
    __vx_token_withdraw __vx_token_give_back
    for name in $__vx_token_user
        set -qg $name; or __vx_token_give_back $name
    end
    __vx_token_hide
    builtin functions -e __vx_token_preexec __vx_token_prompt
    set -eg __vx_token_prints
    if set -q __vx_token_chosen
        set -eg VX_TOKEN_PROFILE
        set -q __vx_token_chosen[1]; and set -gx VX_TOKEN_PROFILE $__vx_token_chosen
        set -eg __vx_token_chosen
    end
    set -eg VX_TOKEN_STATUS
    set -eg VX_TOKEN_HOOK
    set -gu __vx_token_off yes
end

# Also over a value that was set by hand in the meantime, which is then the one kept aside.
function vx-token-on --description 'Bring the variables of vx-token back into this shell'
    set -l fish_trace
    set -lx IFS \n
    __vx_token_reset gone
    set -gu __vx_token_taking yes
    __vx_token_sync
    set -eg __vx_token_taking
    status is-interactive; and __vx_token_register
    return 0
end

function vx-token-use --description 'Switch this shell to another profile, or back to the default one' --argument-names profile
    set -l fish_trace
    set -lx IFS \n
    test -n "$profile"; or set -l profile default
    __vx_token_find $profile
    set -l folder (string replace -r '/[^/]*$' '' -- $__vx_token_place)
    if not string match -qr '^[A-Za-z0-9_][A-Za-z0-9._-]*$' -- $profile; or not test -d $folder
        builtin printf '%s\n' "vx-token: there is no profile "(string escape -- $profile)" here" 'hint: vx-token status lists them; vx-token refresh --profile NAME fetches a first token' >&2
        return 1
    end
    set -q __vx_token_chosen; or set -gu __vx_token_chosen $VX_TOKEN_PROFILE
    if set -q argv[1]
        set -gx VX_TOKEN_PROFILE $profile
    else
        set -eg VX_TOKEN_PROFILE
    end
    set -q __vx_token_off; or __vx_token_sync
end

# --- loading -------------------------------------------------------------------------------------------------------

function __vx_token_start
    set -l fish_trace
    set -lx IFS \n
    if not set -q __vx_token_loaded
        set -gu __vx_token_held
        set -gu __vx_token_user
        set -gu __vx_token_past
        set -gu __vx_token_proxied
        __vx_token_reset ''
        __vx_token_inherit
        set -gu __vx_token_loaded yes
    end
    not set -q __vx_token_off; or return 0
    __vx_token_sync
    status is-interactive; and __vx_token_register
    return 0
end
__vx_token_start
