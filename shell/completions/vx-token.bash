# shellcheck shell=bash
# Completion of vx-token for bash: static, so that a Tab starts no Python; profiles are the folders of the runtime folder.

# The first place that is there, in the order in which the hook looks.
__vx_token_profiles() {
  local folder noglob=''
  for folder in "${XDG_RUNTIME_DIR:-/run/user/$EUID}" "/run/user/$EUID" "${TMPDIR:-/tmp}/runtime-$EUID" "/tmp/runtime-$EUID"; do
    [[ ! -d $folder/vx-token ]] || break
  done
  folder=${VX_TOKEN_RUNTIME_DIR:-$folder/vx-token}
  [[ $- != *f* ]] || noglob=yes
  set +f
  for folder in "$folder"/*/; do
    folder=${folder%/}
    [[ ! -d $folder ]] || profiles+=" ${folder##*/}"
  done
  [[ ! $noglob ]] || set -f
}

# Sets words to what may stand after option $1, and fails when it takes no value; for files it leaves words empty.
__vx_token_values() {
  case $1 in
    --profile) __vx_token_profiles && words=$profiles ;;
    --format) words='token header json' ;;
    --log-format) words='text systemd json' ;;
    --shell) [[ $command == setup ]] && words='bash zsh fish none' || words='sh bash zsh fish dotenv json' ;;
    --location) words='global us eu us-central1 us-east5 europe-west1 europe-west4 asia-southeast1' ;;
    --min-ttl | --grace) words='1m 5m 15m 1h' ;;
    --credentials) files=yes ;;
    --project | --endpoint | --base-url | --impersonate | --model | --seconds | --port | --lines | -n) ;;
    *) return 1 ;;
  esac
}

# Sets words to the options and arguments of $command.
__vx_token_command_words() {
  local source='--profile --project --location --endpoint --base-url --credentials --impersonate --model'
  case $command in
    '') words='print env exec run refresh status doctor hook path setup service gateway completion demo --version -V' ;;
    print) words="$source --min-ttl --format" ;;
    env) words="$source --shell" ;;
    exec) words="$source --gateway" ;;
    run) words="$source --log-format --gateway" ;;
    refresh) words="$source --all" ;;
    status) words='--json --watch' ;;
    doctor) words='--profile --json --live' ;;
    hook | completion) words='bash zsh fish' ;;
    path) words='--profile config runtime hook-bash hook-zsh hook-fish token header env.sh env.fish state.json lock' ;;
    setup)
      words='--project --location --credentials --base-url --profile --shell --hook --no-hook --service --no-service'
      words+=' --yes --dry-run --undo'
      ;;
    service) words='install uninstall start restart stop status logs' ;;
    'service install' | 'service uninstall') words='--dry-run' ;;
    'service logs') words='--lines -n --follow -f' ;;
    gateway) words='key rotate-key --port --access-log' ;;
    'gateway rotate-key') words='--grace' ;;
    demo) words='--seconds' ;;
  esac
  [[ $command == 'exec --' ]] || words+=' --help -h'
}

# Sets COMPREPLY to what compgen finds for word $1 by the options that follow, in every bash and whatever IFS is.
__vx_token_reply() {
  local IFS=$' \t\n' word=$1 line
  shift
  COMPREPLY=()
  while builtin read -r line; do
    COMPREPLY[${#COMPREPLY[@]}]=$line
  done <<<"$(compgen "$@" -- "$word")"
  [[ ${COMPREPLY[0]-} ]] || COMPREPLY=()
}

# Completes the current word: what follows `exec` is another program's command line.
__vx_token_complete() {
  local current=${COMP_WORDS[COMP_CWORD]} command='' words='' profiles='' files='' word i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $command == exec && ($word == -- || ($word != -* && ${COMP_WORDS[i - 1]} != -*)) ]]; then
      __vx_token_complete_program "$i"
      return
    elif [[ -z $command && $word != -* ]]; then
      command=$word
    elif [[ $command == service || $command == gateway ]] && [[ $word != -* && ${COMP_WORDS[i - 1]} == "$command" ]]; then
      command+=" $word"
    fi
  done
  __vx_token_values "${COMP_WORDS[COMP_CWORD - 1]}" || __vx_token_command_words
  if [[ -n $files ]]; then
    __vx_token_reply "$current" -f
  else
    __vx_token_reply "$current" -W "$words"
  fi
}

# Completes the command that starts at word $1 (or after it, when that is `--`) as it would be completed by itself.
__vx_token_complete_program() {
  local first=$1
  [[ ${COMP_WORDS[first]} != -- ]] || first=$((first + 1))
  if ((COMP_CWORD <= first)); then
    __vx_token_reply "$current" -c
  elif declare -F _command_offset >/dev/null; then
    _command_offset "$first"
  else
    __vx_token_reply "$current" -f
  fi
}

__vx_token_complete_use() {
  local profiles=''
  __vx_token_profiles
  __vx_token_reply "${COMP_WORDS[COMP_CWORD]}" -W "$profiles"
}

complete -F __vx_token_complete vx-token
complete -F __vx_token_complete_use vx-token-use
