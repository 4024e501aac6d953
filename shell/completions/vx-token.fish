# Completion of vx-token for fish: static, so that a Tab starts no Python.

# Prints the runtime folder, by the rule of the hook and the program.
function __vx_token_folder
    if test -n "$VX_TOKEN_RUNTIME_DIR"
        string match -q '/*' -- $VX_TOKEN_RUNTIME_DIR; and echo $VX_TOKEN_RUNTIME_DIR; or echo $PWD/$VX_TOKEN_RUNTIME_DIR
    else if string match -q '/*' -- "$XDG_RUNTIME_DIR"; and test -d "$XDG_RUNTIME_DIR" -a -O "$XDG_RUNTIME_DIR"
        echo $XDG_RUNTIME_DIR/vx-token
    else if test (command uname) = Darwin
        echo $HOME/Library/Caches/TemporaryItems/vx-token
    else if test -d /run/user/$EUID -a -O /run/user/$EUID
        echo /run/user/$EUID/vx-token
    else
        for tmp in $TMPDIR $TEMP $TMP /tmp
            string match -q '/*' -- $tmp; and test -d $tmp -a -w $tmp; and break
        end
        echo $tmp/runtime-$EUID/vx-token
    end
end

# Fails when another user can replace the folder $argv[1] or write to it. Each folder and link on the way must be ours or
# root's, and others may write only to sticky ones. fish itself cannot read permissions, so ls does.
function __vx_token_is_safe
    test -d $argv[1] -a -O $argv[1]; or return 1
    test -L $argv[1] -o -k $argv[1]; and return 1
    set -l parts /
    for way in $argv[1] (builtin realpath $argv[1])
        while string match -qr '^/.*[^/]' -- $way
            set -a parts $way
            set way (string replace -r '/+[^/]*$' '' -- $way)
        end
    end
    set -l lines (command ls -dlnq -- $parts 2>/dev/null)
    test (count $lines) -eq (count $parts); or return 1
    for line in $lines
        string match -qr "^(l|d....-..-|d........[tT])\S* +\S+ +(0|$EUID) " -- $line; or return 1
    end
end

# Prints the profiles: the folders in the runtime folder whose names every shell reads as one plain word.
function __vx_token_profiles
    set -l folder (__vx_token_folder)
    __vx_token_is_safe "$folder"; or return
    set -l all $folder/*/
    string match -r '(?<=/)[A-Za-z0-9._-]+(?=/$)' -- $all
end

# Is $argv[1] the command (and $argv[2] its own)? Without arguments: is there none yet?
function __vx_token_at
    set -l words (string match -v -- '-*' (commandline -opc)[2..])
    test (count $argv) -gt 0; or begin
        not set -q words[1]
        return
    end
    test "$words[1]" = $argv[1]; or return 1
    switch (count $argv)
        case 1
            return 0
        case '*'
            test "$words[2]" = "$argv[2]"
    end
end

complete -c vx-token -f
complete -c vx-token -s h -l help -d 'Show help'
complete -c vx-token -n __vx_token_at -s V -l version -d 'Show the version'

complete -c vx-token -n __vx_token_at -a print -d 'Print a live token'
complete -c vx-token -n __vx_token_at -a env -d 'Print the variables'
complete -c vx-token -n __vx_token_at -a exec -d 'Run a command with the variables set'
complete -c vx-token -n __vx_token_at -a run -d 'Keep tokens fresh, in the foreground'
complete -c vx-token -n __vx_token_at -a refresh -d 'Get a new token now'
complete -c vx-token -n __vx_token_at -a status -d 'Show how things are'
complete -c vx-token -n __vx_token_at -a doctor -d 'Look for what is wrong'
complete -c vx-token -n __vx_token_at -a hook -d 'Print the hook of a shell'
complete -c vx-token -n __vx_token_at -a path -d 'Print where something is'
complete -c vx-token -n __vx_token_at -a setup -d 'Set everything up, or take it back'
complete -c vx-token -n __vx_token_at -a service -d 'The background service'
complete -c vx-token -n __vx_token_at -a gateway -d 'The loopback gateway'
complete -c vx-token -n __vx_token_at -a completion -d 'Print the completion of a shell'
complete -c vx-token -n __vx_token_at -a demo -d 'Show it all without an account'

for command in print env exec run refresh
    complete -c vx-token -n "__vx_token_at $command" -x -l profile -a '(__vx_token_profiles)' -d 'The profile'
    complete -c vx-token -n "__vx_token_at $command" -x -l project -d 'The Google Cloud project'
    complete -c vx-token -n "__vx_token_at $command" -x -l location -a 'global us eu us-central1 us-east5 europe-west1 europe-west4 asia-southeast1' -d 'The location'
    complete -c vx-token -n "__vx_token_at $command" -x -l endpoint -a openapi -d 'openapi, or an endpoint id'
    complete -c vx-token -n "__vx_token_at $command" -x -l base-url -d 'The base URL as it is'
    complete -c vx-token -n "__vx_token_at $command" -r -F -l credentials -d 'A credential file'
    complete -c vx-token -n "__vx_token_at $command" -x -l impersonate -d 'A service account'
    complete -c vx-token -n "__vx_token_at $command" -x -l model -d 'The model'
end
complete -c vx-token -n '__vx_token_at print' -x -l min-ttl -a '1m 5m 15m 1h' -d 'Refresh first when less life is left'
complete -c vx-token -n '__vx_token_at print' -x -l format -a 'token header json' -d 'What to print'
complete -c vx-token -n '__vx_token_at env' -x -l shell -a 'sh bash zsh fish dotenv json' -d 'For which shell'
complete -c vx-token -n '__vx_token_at exec' -l gateway -d 'Serve the command from a gateway of its own'
complete -c vx-token -n '__vx_token_at exec' -a '(__fish_complete_subcommand --fcs-skip=2)'
complete -c vx-token -n '__vx_token_at run' -x -l log-format -a 'text systemd json' -d 'The form of a line'
complete -c vx-token -n '__vx_token_at run' -l gateway -d 'Serve the gateway too'
complete -c vx-token -n '__vx_token_at refresh' -l all -d 'Every profile'
complete -c vx-token -n '__vx_token_at status' -l json -d 'As one JSON object'
complete -c vx-token -n '__vx_token_at status' -l watch -d 'Again every second'
complete -c vx-token -n '__vx_token_at doctor' -x -l profile -a '(__vx_token_profiles)' -d 'The profile'
complete -c vx-token -n '__vx_token_at doctor' -l json -d 'As one JSON object'
complete -c vx-token -n '__vx_token_at doctor' -l live -d 'Ask Google too'
complete -c vx-token -n '__vx_token_at hook' -a 'bash zsh fish'
complete -c vx-token -n '__vx_token_at completion' -a 'bash zsh fish'
complete -c vx-token -n '__vx_token_at path' -a 'config runtime hook-bash hook-zsh hook-fish token header env.sh env.fish state.json lock'
complete -c vx-token -n '__vx_token_at path' -x -l profile -a '(__vx_token_profiles)' -d 'The profile'

complete -c vx-token -n '__vx_token_at setup' -x -l project -d 'The Google Cloud project'
complete -c vx-token -n '__vx_token_at setup' -x -l location -a 'global us eu' -d 'The location'
complete -c vx-token -n '__vx_token_at setup' -r -F -l credentials -d 'A credential file'
complete -c vx-token -n '__vx_token_at setup' -x -l base-url -d 'The base URL as it is'
complete -c vx-token -n '__vx_token_at setup' -x -l profile -a '(__vx_token_profiles)' -d 'The profile'
complete -c vx-token -n '__vx_token_at setup' -x -l shell -a 'bash zsh fish none' -d 'Whose hook'
complete -c vx-token -n '__vx_token_at setup' -l hook -d 'Load the hook'
complete -c vx-token -n '__vx_token_at setup' -l no-hook -d 'Leave the hook alone'
complete -c vx-token -n '__vx_token_at setup' -l service -d 'Install the service'
complete -c vx-token -n '__vx_token_at setup' -l no-service -d 'Leave the service alone'
complete -c vx-token -n '__vx_token_at setup' -l yes -d 'Ask nothing'
complete -c vx-token -n '__vx_token_at setup' -l dry-run -d 'Say what would be done'
complete -c vx-token -n '__vx_token_at setup' -l undo -d 'Take it all back'

complete -c vx-token -n '__vx_token_at service ""' -a 'install uninstall start restart stop status logs'
complete -c vx-token -n '__vx_token_at service install' -l dry-run -d 'Say what would be done'
complete -c vx-token -n '__vx_token_at service uninstall' -l dry-run -d 'Say what would be done'
complete -c vx-token -n '__vx_token_at service logs' -x -s n -l lines -d 'How many'
complete -c vx-token -n '__vx_token_at service logs' -s f -l follow -d 'Go on'

complete -c vx-token -n '__vx_token_at gateway ""' -a 'key rotate-key'
complete -c vx-token -n '__vx_token_at gateway ""' -x -l port -d 'Another port than the configured'
complete -c vx-token -n '__vx_token_at gateway ""' -l access-log -d 'One line a request'
complete -c vx-token -n '__vx_token_at gateway rotate-key' -x -l grace -a '5m 15m 1h' -d 'How long the old key still counts'

complete -c vx-token -n '__vx_token_at demo' -x -l seconds -d 'How long to show it'

complete -c vx-token-use -f -a '(__vx_token_profiles)'
