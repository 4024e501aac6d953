# shellcheck shell=bash
# Completion of vx-token for bash: static, so that a Tab starts no Python.

# Sets folder to the runtime folder, by the rule of the hook and the program.
__vx_token_folder() {
  local tmp
  if [[ ${VX_TOKEN_RUNTIME_DIR-} ]]; then
    folder=$VX_TOKEN_RUNTIME_DIR
    [[ $folder == /* ]] || folder=$PWD/$folder
    return
  elif [[ ${XDG_RUNTIME_DIR-} == /* && -d $XDG_RUNTIME_DIR && -O $XDG_RUNTIME_DIR ]]; then
    folder=$XDG_RUNTIME_DIR
  elif [[ ${OSTYPE-} == darwin* ]]; then
    folder=${HOME-}/Library/Caches/TemporaryItems
  elif [[ -d /run/user/$EUID && -O /run/user/$EUID ]]; then
    folder=/run/user/$EUID
  else
    for tmp in "${TMPDIR-}" "${TEMP-}" "${TMP-}" /tmp; do
      [[ $tmp != /* || ! -d $tmp || ! -w $tmp ]] || break
    done
    folder=$tmp/runtime-$EUID
  fi
  folder+=/vx-token
}

# Fails when another user can replace the folder $1 or write to it. Each folder and link on the way must be ours or
# root's, and others may write only to sticky ones. bash itself cannot read permissions, so ls does.
__vx_token_is_safe() {
  local IFS=$' \t\n' way mode uid rest
  local -a parts
  [[ -d $1 && -O $1 && ! -L $1 && ! -k $1 ]] || return 1
  parts=(/)
  for way in "$1" "$(builtin cd -P -- "$1" 2>/dev/null && builtin pwd -P)"; do
    while [[ $way == /*[!/]* ]]; do
      parts[${#parts[@]}]=$way
      way=${way%/*}
    done
  done
  while builtin read -r mode rest uid rest; do
    [[ $uid == 0 || $uid == "$EUID" ]] || return 1
    [[ $mode == l* || $mode == d????-??-* || $mode == d????????[tT]* ]] || return 1
  done <<<"$(builtin command -p ls -dlnq -- "${parts[@]}" 2>/dev/null || builtin echo unknown)"
}

# Appends to COMPREPLY the profiles that begin with $1: the folders in the runtime folder. What a file system holds is
# never expanded, as `compgen -W` would, and nothing is offered that a shell reads as more than a word.
__vx_token_profiles() {
  local folder name noglob='' failglob=''
  __vx_token_folder
  __vx_token_is_safe "$folder" || return 0
  [[ $- != *f* ]] || noglob=yes
  ! shopt -q failglob || failglob=yes
  set +f
  shopt -u failglob
  for folder in "$folder"/*/; do
    folder=${folder%/} name=${folder##*/}
    [[ -d $folder && $name == "$1"* && $name != *[!A-Za-z0-9._-]* ]] || continue
    COMPREPLY[${#COMPREPLY[@]}]=$name
  done
  [[ ! $noglob ]] || set -f
  [[ ! $failglob ]] || shopt -s failglob
}

# Sets words to what may stand after option $1, and fails when it takes no value; files and profiles have a variable each.
__vx_token_values() {
  case $1 in
    --profile) profiles=yes ;;
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
  elif [[ -n $profiles ]]; then
    __vx_token_profiles "$current"
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
  COMPREPLY=()
  __vx_token_profiles "${COMP_WORDS[COMP_CWORD]}"
}

complete -F __vx_token_complete vx-token
complete -F __vx_token_complete_use vx-token-use
