# vx-token for zsh: keeps OPENAI_API_KEY and related variables current in an interactive shell.
#
# The hook reads the file <runtime>/<profile>/env.sh at each prompt and before each command. It parses the file and
# never executes it. It forks no process. Its state is in arrays, because arrays are never exported, not even under
# ALL_EXPORT. Each entry point starts with `emulate -LR zsh`, so that the user's options have no effect; the functions
# that it calls inherit this. See `vx-token help shell`.
#
# The sections are in the order in which a shell runs them. Sourcing the file runs the last one, Loading.

# zsh applies these options and aliases when it parses a function, so they are off until the end of this file. The words
# are quoted because an alias would replace them otherwise.
'builtin' 'typeset' '-ga' '__vx_token_options'
__vx_token_options=()
[[ ! -o 'aliases' ]] || __vx_token_options+=('aliases')
[[ ! -o 'sh_glob' ]] || __vx_token_options+=('sh_glob')
[[ ! -o 'ignore_braces' ]] || __vx_token_options+=('ignore_braces')
[[ ! -o 'ignore_close_braces' ]] || __vx_token_options+=('ignore_close_braces')
[[ ! -o 'csh_junkie_loops' ]] || __vx_token_options+=('csh_junkie_loops')
[[ ! -o 'csh_junkie_quotes' ]] || __vx_token_options+=('csh_junkie_quotes')
'builtin' 'unsetopt' 'aliases' 'sh_glob' 'ignore_braces' 'ignore_close_braces' 'csh_junkie_loops' 'csh_junkie_quotes'

# --- At each prompt and before each command -----------------------------------------------------------------------

# Installs the hook in this shell, once.
__vx_token_register() {
  builtin typeset -ga precmd_functions preexec_functions
  (( $precmd_functions[(Ie)__vx_token_prompt] )) || precmd_functions+=(__vx_token_prompt)
  (( $preexec_functions[(Ie)__vx_token_preexec] )) || preexec_functions+=(__vx_token_preexec)
}

# Removes the hook from this shell.
__vx_token_unregister() {
  precmd_functions=("${(@)precmd_functions:#__vx_token_prompt}")
  preexec_functions=("${(@)preexec_functions:#__vx_token_preexec}")
}

# Runs before each prompt. Returns the status of the user's command, so that the next prompt function sees it. Under
# ERR_EXIT it returns 0, because a failing prompt function would end the shell.
__vx_token_prompt() {
  local _vx_code=$?
  [[ ! -o errexit ]] || _vx_code=0
  builtin emulate -LR zsh
  [[ -n $__vx_token[off] ]] || __vx_token_is_unchanged || __vx_token_update_prompt
  builtin return $_vx_code
}

# Runs between Enter and the command, and leaves the command the status of the one before.
__vx_token_preexec() {
  local _vx_code=$?
  builtin emulate -LR zsh
  [[ -n $__vx_token[off] ]] || __vx_token_is_unchanged || __vx_token_update_variables
  builtin return $_vx_code
}

# Updates the variables and the status for prompts, and prints a notice when the state has changed.
__vx_token_update_prompt() {
  __vx_token_update_variables
  __vx_token_set_status
  [[ $__vx_token[state] == "$__vx_token[notified]" ]] || __vx_token_notify
  __vx_token_take_snapshot
}

# --- When nothing has changed -------------------------------------------------------------------------------------

# Checks that the file's content and each variable that an update reads are those of the last snapshot, and that no
# time limit has passed. This is one function of few commands because it is all that nearly every prompt runs.
# Folders that take precedence over the file's folder may appear at any time, so they are checked too.
__vx_token_is_unchanged() {
  local _vx_file=$__vx_token[file] _vx_content _vx_values _vx_now _vx_part
  [[ $__vx_token[valid_until] != 0 ]] || builtin return 1
  for _vx_part in $__vx_token_sticky_entries; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
  [[ ! -d $__vx_token_higher_folders[1] && ! -d $__vx_token_higher_folders[2] ]] || builtin return 1
  [[ -f $_vx_file && -O $_vx_file && -r $_vx_file ]] && __vx_token_read_file || builtin return 1
  __vx_token_collect_values
  [[ $_vx_content == "$__vx_token[content]" && $_vx_values == "$__vx_token[snapshot]" ]] || builtin return 1
  _vx_now=${(%):-%D{%s}}
  (( __vx_token[valid_from] <= _vx_now && _vx_now < __vx_token[valid_until] ))
}

# Sets _vx_values to the values of all variables that an update reads: the location of the file, the names that
# every file sets, and the names in __vx_token_watched.
__vx_token_collect_values() {
  local _vx_name
  _vx_values="$VX_TOKEN_RUNTIME_DIR|$VX_TOKEN_PROFILE|$XDG_RUNTIME_DIR|$TMPDIR|$TEMP|$TMP|$HOME|$OPENAI_API_KEY|"
  _vx_values+="$OPENAI_BASE_URL|$OPENAI_API_BASE|$OPENAI_API_BASE_URL|$OPENAI_AGENTS_DISABLE_TRACING|"
  _vx_values+="$VX_TOKEN_EXPIRES_AT|$VX_TOKEN_STATUS"
  for _vx_name in $__vx_token_watched; do
    _vx_values+="|${(P)_vx_name}"
  done
}

# Stores what is_unchanged compares. It is valid until the minutes in VX_TOKEN_STATUS change. There is no snapshot
# of an unreadable file or of a state whose notice is still due, so the next prompt runs a full update.
__vx_token_take_snapshot() {
  local _vx_values _vx_left=$(( __vx_token_head[expires] - __vx_token[now] ))
  [[ -n $__vx_token[content] && $__vx_token[state] == "$__vx_token[notified]" ]] || builtin return 0
  __vx_token_higher_folders=()
  if [[ -z $VX_TOKEN_RUNTIME_DIR && $__vx_token[file] != "$XDG_RUNTIME_DIR"/vx-token/* ]]; then
    __vx_token_higher_folders=("$XDG_RUNTIME_DIR")
    [[ $__vx_token[file] == /run/user/$EUID/* ]] || __vx_token_higher_folders+=(/run/user/$EUID)
  fi
  __vx_token_watched=("${(@k)__vx_token_offer}")
  __vx_token_watched=(${__vx_token_watched:#(OPENAI_API_KEY|OPENAI_BASE_URL|OPENAI_API_BASE|OPENAI_API_BASE_URL)})
  __vx_token_watched=(${__vx_token_watched:#(OPENAI_AGENTS_DISABLE_TRACING|VX_TOKEN_EXPIRES_AT)})
  if [[ $__vx_token_head[mode] == gateway ]]; then
    __vx_token_watched+=(HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy NO_PROXY no_proxy)
    _vx_left=60
  elif (( _vx_left >= 60 )); then
    _vx_left=$(( _vx_left % 60 + 1 ))
  fi
  __vx_token_collect_values
  __vx_token[snapshot]=$_vx_values
  __vx_token[valid_from]=$__vx_token[now] __vx_token[valid_until]=$(( __vx_token[now] + _vx_left ))
}

# --- Updating the variables ---------------------------------------------------------------------------------------

# Updates the variables from the file. The state becomes ok, login, expired, malformed, gone, unsafe, foreign,
# unreadable, `paused NAME` or `readonly NAME`.
__vx_token_update_variables() {
  local _vx_file _vx_problem _vx_content _vx_now _vx_state=ok
  __vx_token_find_file ${VX_TOKEN_PROFILE:-default}
  __vx_token_load_file
  __vx_token_read_clock
  __vx_token[now]=$_vx_now __vx_token[valid_until]=0
  __vx_token_update_offer
  if (( ! $#__vx_token_offer )); then
    _vx_state=${_vx_problem:-expired}
    __vx_token_withdraw_token
  elif [[ $__vx_token_head[mode] == direct ]] && (( _vx_now >= __vx_token_head[expires] )); then
    _vx_state=expired
    __vx_token_withdraw_token
  else
    __vx_token_provide_token
  fi
  [[ $__vx_token_head[status] != login || $_vx_state != (ok|expired) ]] || _vx_state=login
  __vx_token[state]=$_vx_state
}

# Sets the variables of a valid token.
__vx_token_provide_token() {
  __vx_token_apply_offer
  if [[ $__vx_token_head[mode] == gateway && $_vx_state == ok ]]; then
    __vx_token_update_no_proxy add
  else
    __vx_token_update_no_proxy remove
  fi
  [[ $_vx_state != ok || -z $_vx_problem ]] || _vx_state=$_vx_problem
}

# Unsets our variables when there is no valid token. The user's own values stay set aside, because an expired token
# must not send the next command to another provider and its bill.
__vx_token_withdraw_token() {
  __vx_token_withdraw __vx_token_unset
  __vx_token_update_no_proxy remove
  __vx_token_export_marker
}

# --- Reading the file ---------------------------------------------------------------------------------------------

# Sets _vx_file to the file of profile $1. The order is that of the program: VX_TOKEN_RUNTIME_DIR, XDG_RUNTIME_DIR,
# the system's folder for the user, the folder for temporary files.
__vx_token_find_file() {
  local _vx_tmp
  if [[ -n $VX_TOKEN_RUNTIME_DIR ]]; then
    _vx_file=$VX_TOKEN_RUNTIME_DIR
  elif [[ $XDG_RUNTIME_DIR == /* && -d $XDG_RUNTIME_DIR && -O $XDG_RUNTIME_DIR ]]; then
    _vx_file=$XDG_RUNTIME_DIR/vx-token
  elif [[ $OSTYPE == darwin* ]]; then
    _vx_file=$HOME/Library/Caches/TemporaryItems/vx-token
  elif [[ -d /run/user/$EUID && -O /run/user/$EUID ]]; then
    _vx_file=/run/user/$EUID/vx-token
  else
    for _vx_tmp in "$TMPDIR" "$TEMP" "$TMP" /tmp; do
      [[ $_vx_tmp != /* || ! -d $_vx_tmp || ! -w $_vx_tmp ]] || builtin break
    done
    _vx_file=$_vx_tmp/runtime-$EUID/vx-token
  fi
  [[ $_vx_file == /* ]] || _vx_file=$PWD/$_vx_file
  _vx_file+=/$1/env.sh
}

# Reads the file _vx_file, or sets _vx_problem to gone (missing, or not a regular file), unsafe, foreign or
# unreadable. The folders are checked first, because after that no other user can exchange the file between its
# checks and the read.
__vx_token_load_file() {
  if [[ ! -f $_vx_file ]]; then
    _vx_problem=gone
  elif ! __vx_token_folder_is_safe ${_vx_file%/*}; then
    _vx_problem=unsafe
  elif [[ ! -O $_vx_file ]]; then
    _vx_problem=foreign
  elif [[ ! -r $_vx_file ]]; then
    _vx_problem=unreadable
  elif __vx_token_read_file; then
    _vx_problem=
  else
    _vx_problem=gone
  fi
}

# Fails when another user can write to the folder $1 or replace it. The result of check_folder holds until the
# folder changes. Our entries in sticky folders are checked each time, because another user can create an entry
# again once it has been removed.
__vx_token_folder_is_safe() {
  local _vx_part
  [[ $1 == "$__vx_token[safe_folder]" ]] || __vx_token_check_folder $1 || builtin return 1
  for _vx_part in $__vx_token_sticky_entries; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
}

# Checks each folder and link on the path to $1, both as written and with links resolved. All must belong to the
# user or root. Only sticky folders may be writable by others, and our entry in a sticky folder must not be a link.
__vx_token_check_folder() {
  local _vx_path _vx_parent
  local -a _vx_parts
  local -A _vx_info
  __vx_token[safe_folder]='' __vx_token_sticky_entries=()
  [[ ! -k $1 ]] && builtin zmodload -s -F zsh/stat b:zstat || builtin return 1
  _vx_parts=(/)
  for _vx_path in $1 ${${1:A}:#$1}; do
    while [[ $_vx_path == /*[^/]* ]]; do
      _vx_parts+=($_vx_path)
      _vx_parent=${_vx_path%/*}
      if [[ -k ${_vx_parent:-/} && -O $_vx_path ]]; then
        [[ ! -L $_vx_path ]] || builtin return 1
        __vx_token_sticky_entries+=($_vx_path)
      fi
      _vx_path=$_vx_parent
    done
  done
  for _vx_path in $_vx_parts; do
    builtin zstat -LH _vx_info -- $_vx_path 2>/dev/null || builtin return 1
    (( _vx_info[uid] == 0 || _vx_info[uid] == EUID )) || builtin return 1
    (( (_vx_info[mode] & 8#170000) == 8#120000 || !(_vx_info[mode] & 8#022) || _vx_info[mode] & 8#1000 )) || builtin return 1
  done
  __vx_token[safe_folder]=$1
}

# Sets _vx_content to the content of _vx_file with a single open. stderr is discarded because the file may have
# vanished. `$(<file)` would need a system call for each 64 bytes.
__vx_token_read_file() {
  local _vx_part
  _vx_content=
  {
    while builtin sysread _vx_part; do
      _vx_content+=$_vx_part
    done <$_vx_file
  } 2>/dev/null
}

# Sets _vx_now to epoch seconds by a prompt escape, which needs no module.
__vx_token_read_clock() {
  local _vx_format='%D{%s}'
  _vx_now=${(%)_vx_format}
}

# --- Parsing the file ---------------------------------------------------------------------------------------------

# Parses the file if it has changed. The offer is the content of the last valid file. A malformed file does not come
# from the daemon, so the offer stays in use until its token expires.
__vx_token_update_offer() {
  if [[ $_vx_file != $__vx_token[file] ]]; then
    __vx_token[file]=$_vx_file
    __vx_token_clear_offer
  fi
  if [[ -n $_vx_problem ]]; then
    __vx_token_clear_offer
  elif [[ $_vx_content != "$__vx_token[content]" || -z $_vx_content ]]; then
    if __vx_token_parse_file; then
      __vx_token[content]=$_vx_content
    else
      __vx_token[content]='' _vx_problem=malformed
    fi
  fi
}

# Replaces the offer by the parsed file, or fails and changes nothing. The end marker in the last line detects a
# truncated file.
__vx_token_parse_file() {
  local -A _vx_offer _vx_head
  local -a _vx_lines
  local _vx_line _vx_key
  [[ $_vx_content == *$'\n' ]] || builtin return 1
  _vx_lines=("${(@f)${_vx_content%$'\n'}}")
  [[ $_vx_lines[1] == '# vx-token env.sh 1' && $_vx_lines[-1] == '# end' ]] || builtin return 1
  for _vx_line in "${(@)_vx_lines[2,-2]}"; do
    case $_vx_line in
      (*[[:cntrl:]]*|'# end') builtin return 1 ;;
      ('# '(profile|status|expires|mode|notice)': '*)
        _vx_key=${${_vx_line#'# '}%%:*}
        _vx_head[$_vx_key]=${_vx_line#*: }
        ;;
      ('#'*) ;;
      ('export '*) __vx_token_parse_export $_vx_line || builtin return 1 ;;
      (*) builtin return 1 ;;
    esac
  done
  [[ $_vx_head[profile] == [A-Za-z0-9._-]* && $_vx_head[profile] != *[^A-Za-z0-9._-]* ]] || builtin return 1
  [[ $_vx_head[expires] == <-> && ${#_vx_head[expires]} -le 12 ]] || builtin return 1
  [[ $_vx_head[status] == (fresh|retrying|login|expired) && $_vx_head[mode] == (direct|gateway) ]] || builtin return 1
  __vx_token_head=("${(@kv)_vx_head}")
  __vx_token_offer=("${(@kv)_vx_offer}")
}

# Parses a line `export NAME='value'` in $1; fails on anything else and on a repeated name.
__vx_token_parse_export() {
  local _vx_name=${${1#export }%%\=*} _vx_value=${1#*\=}
  __vx_token_is_allowed_name $_vx_name || builtin return 1
  [[ $_vx_value == \'?*\' && ${#_vx_value} -gt 2 && -z $_vx_offer[$_vx_name] ]] || builtin return 1
  _vx_value=${_vx_value[2,-2]}
  [[ $_vx_value != *\'* ]] || builtin return 1
  _vx_offer[$_vx_name]=$_vx_value
}

# Checks that a file may set the variable $1. The rule allows forms of names, as `exportable` in presets.py does,
# because a list of all variables that shells, loaders and interpreters act on can never be complete.
__vx_token_is_allowed_name() {
  case $1 in
    (VX_TOKEN_EXPIRES_AT|GPTME_OPENAI_RESPONSES_API|no_proxy) builtin return 0 ;;
    (''|[0-9]*|*[^A-Za-z0-9_]*) builtin return 1 ;;
    (API_BASE_URL|OPENAI_CUSTOM_HEADERS|OPENAI_ORG_ID|OPENAI_PROJECT_ID) builtin return 1 ;;
    (_*|LD_*|DYLD_*|GLIBC_*|MALLOC_*|BASH*|ZSH*|zsh*|FISH*|fish*|COMP_*|HIST*) builtin return 1 ;;
    (PYTHON*|PERL*|RUBY*|NODE_*|NPM_*|PIP_*|UV_*|JAVA*|GIT_*|SSH_*|VX_TOKEN_*) builtin return 1 ;;
    (OPENAI_*|*_KEY|*_TOKEN|*_URL|*_URI|*_BASE|*_HOST|*_ENDPOINT|*_MODEL|*_PROVIDER) builtin return 0 ;;
    (*_PROJECT|*_LOCATION|*_REGION|*_TIMEOUT|*_PROXY) builtin return 0 ;;
  esac
  builtin return 1
}

# Forgets the last file.
__vx_token_clear_offer() {
  __vx_token[content]=''
  __vx_token_head=() __vx_token_offer=()
}

# --- Deciding whose values the variables have ---------------------------------------------------------------------

# Sets the variables of the offer. Sets none of them if the user has set a route (see is_route) or if one is
# read-only.
__vx_token_apply_offer() {
  local _vx_name
  local -a _vx_skip
  if __vx_token_classify; then
    __vx_token_withdraw __vx_token_restore "${(@k)__vx_token_offer}"
    for _vx_name in "${(@k)__vx_token_offer}"; do
      (( $_vx_skip[(Ie)$_vx_name] )) || __vx_token_set_variable $_vx_name $__vx_token_offer[$_vx_name]
    done
  else
    __vx_token_withdraw __vx_token_restore
  fi
  __vx_token_export_marker
}

# Inspects each offered variable before any is set. Sets aside a value from before the hook. Lists variables that
# the user has set since in _vx_skip; when such a variable is a route, or any is read-only, fails with its name in
# _vx_state. Values that were handed over are never set aside, because vx-token-off must not restore an old token.
__vx_token_classify() {
  local _vx_name _vx_handed_over
  ! __vx_token_is_handed_over || _vx_handed_over=yes
  for _vx_name in "${(@k)__vx_token_offer}"; do
    if [[ ${(Pt)_vx_name} == *readonly* ]]; then
      _vx_state="readonly $_vx_name"
      builtin return 1
    elif [[ ! -v $_vx_name ]] || __vx_token_is_ours $_vx_name; then
      builtin continue
    elif __vx_token_is_aside $_vx_name; then
      __vx_token_set_aside $_vx_name
    elif __vx_token_is_replaceable $_vx_name; then
      builtin continue
    elif __vx_token_is_route $_vx_name &&
      [[ (-n $_vx_handed_over && -z $__vx_token[overriding]) || -n $__vx_token_seen[$_vx_name] ]]; then
      _vx_state="paused $_vx_name"
      builtin return 1
    elif (( $+__vx_token_seen[$_vx_name] )); then
      _vx_skip+=($_vx_name)
    elif [[ -z $_vx_handed_over ]] || ! __vx_token_is_route $_vx_name; then
      __vx_token_set_aside $_vx_name
    fi
  done
}

# Checks that the value of $1 is ours, current or earlier. direnv and tmux restore old environments.
__vx_token_is_ours() {
  (( $+__vx_token_held[$1] )) && [[ ${(P)1} == "$__vx_token_held[$1]" ]] || (( $__vx_token_past[(Ie)$1=${(P)1}] ))
}

# Checks whether $1 has the value that was set aside, here or in a parent shell. It gets that value again when a
# start-up file is read again.
__vx_token_is_aside() {
  local _vx_fingerprint
  __vx_token_fingerprint "${(P)1}"
  (( $__vx_token_fingerprints[(Ie)$1~$_vx_fingerprint] )) || builtin return 1
  if (( $+__vx_token_aside[$1] )); then
    [[ $__vx_token_aside[$1] == "${(P)1}" ]]
  else
    (( ! $+__vx_token_seen[$1] ))
  fi
}

# Checks whether VX_TOKEN_EXPIRES_AT comes from elsewhere. If so, the key does too: from `vx-token env`, `vx-token
# exec` or a sourced file.
__vx_token_is_handed_over() {
  [[ -n $VX_TOKEN_EXPIRES_AT && $VX_TOKEN_EXPIRES_AT != "$__vx_token_held[VX_TOKEN_EXPIRES_AT]" ]]
}

# Checks whether the value of the offered variable $1 may be replaced although this shell did not set it. That is so
# if it equals the offered value, or if it was handed over together with our URL. A token with another URL belongs
# to another profile or project, so it stays.
__vx_token_is_replaceable() {
  local _vx_key=$__vx_token_offer[OPENAI_API_KEY] _vx_value=$__vx_token_offer[$1]
  [[ $1 != VX_TOKEN_EXPIRES_AT ]] || builtin return 0
  if [[ ${(P)1} == "$_vx_value" ]]; then
    [[ -n $_vx_handed_over || $_vx_value == "$_vx_key" || -n $__vx_token_seen[$1] ]]
  else
    [[ -n $_vx_handed_over && -n $_vx_key && $_vx_value == *"$_vx_key"* ]] &&
      [[ $OPENAI_BASE_URL == "$__vx_token_offer[OPENAI_BASE_URL]" ]]
  fi
}

# Checks whether the offered variable $1 is a URL or the key. Such variables are all set or all left alone, because
# our key must never be sent to another URL.
__vx_token_is_route() {
  [[ $__vx_token_offer[$1] == (http|https)://* || $__vx_token_offer[$1] == "$__vx_token_offer[OPENAI_API_KEY]" ]]
}

# --- Setting, unsetting and restoring variables -------------------------------------------------------------------

# Sets $1 to the value $2 and records it as ours.
__vx_token_set_variable() {
  __vx_token_export $1 $2
  __vx_token_seen[$1]=1
  if (( $+__vx_token_held[$1] )) && [[ $__vx_token_held[$1] != "$2" ]]; then
    __vx_token_record_past $1
  fi
  __vx_token_held[$1]=$2
}

# Stores the user's value of $1, and whether it was exported, for vx-token-off.
__vx_token_set_aside() {
  local _vx_fingerprint
  __vx_token_aside[$1]=${(P)1}
  __vx_token_aside_attributes[$1]=${(Pt)1}
  [[ -z $__vx_token[overriding] ]] || builtin return 0
  __vx_token_fingerprint "${(P)1}"
  (( $__vx_token_fingerprints[(Ie)$1~$_vx_fingerprint] )) || __vx_token_fingerprints+=("$1~$_vx_fingerprint")
}

# Restores the user's value of $1 or unsets it. Afterwards the variable is treated as if the hook had never seen it.
__vx_token_restore() {
  __vx_token_unset $1
  (( $+__vx_token_aside[$1] )) || builtin return 0
  builtin typeset -g "$1=$__vx_token_aside[$1]"
  [[ $__vx_token_aside_attributes[$1] != *export* ]] || builtin export "$1"
  builtin unset "__vx_token_aside[$1]" "__vx_token_aside_attributes[$1]" "__vx_token_seen[$1]"
}

# Removes our variables from the environment with the function $1 (unset or restore), except the names $2 and
# following. Values that the user has set in their place stay.
__vx_token_withdraw() {
  local _vx_name
  for _vx_name in "${(@k)__vx_token_held}"; do
    (( ! ${@[(Ie)$_vx_name]} )) || builtin continue
    if [[ -v $_vx_name ]] && __vx_token_is_ours $_vx_name; then
      $1 $_vx_name
    fi
    __vx_token_record_past $_vx_name
    builtin unset "__vx_token_held[$_vx_name]"
  done
}

# Stores the previous value of $1 for is_ours; the last 32 are kept.
__vx_token_record_past() {
  __vx_token_past=("${(@)__vx_token_past[-31,-1]}" "$1=$__vx_token_held[$1]")
}

# Exports $1 with the value $2. It is unset first, because an integer or upper-case attribute would change the
# value.
__vx_token_export() {
  __vx_token_unset $1 && builtin export "$1=$2"
}

# Unsets $1; fails if it is read-only.
__vx_token_unset() {
  [[ ${(Pt)1} != *readonly* ]] && builtin unset "$1"
}

# Adds 127.0.0.1 and localhost to NO_PROXY while a proxy is set ($1 is add), because requests to the gateway must
# not go through a proxy, or removes them. They are a suffix, so that removing them restores the user's value.
__vx_token_update_no_proxy() {
  local _vx_name _vx_suffix=127.0.0.1,localhost
  for _vx_name in NO_PROXY no_proxy; do
    if [[ $1 == add ]]; then
      [[ -n $HTTP_PROXY$http_proxy$HTTPS_PROXY$https_proxy$ALL_PROXY$all_proxy ]] || builtin continue
      [[ ${(P)_vx_name} != '*' && ,${(P)_vx_name}, != *,127.0.0.1,* && ${(Pt)_vx_name} != *readonly* ]] || builtin continue
      __vx_token_export $_vx_name "${(P)_vx_name}${${(P)_vx_name}:+,}$_vx_suffix"
      __vx_token_proxied[$_vx_name]=1
    elif (( $+__vx_token_proxied[$_vx_name] )) && [[ ${(P)_vx_name} == *$_vx_suffix ]]; then
      __vx_token_export $_vx_name "${${${(P)_vx_name}%$_vx_suffix}%,}"
      [[ -n ${(P)_vx_name} ]] || __vx_token_unset $_vx_name
    fi
  done
  [[ $1 == add ]] || __vx_token_proxied=()
}

# --- Child shells -------------------------------------------------------------------------------------------------

# Exports VX_TOKEN_HOOK, which shows child shells that there is a hook and whose values the variables have: ours
# (`NAME:` and the fingerprint), set by the user or missing (`NAME:` alone), or set aside (`NAME~` and the
# fingerprint).
__vx_token_export_marker() {
  local _vx_name _vx_fingerprint
  local -a _vx_marker
  _vx_marker=(1)
  for _vx_name in "${(@ok)__vx_token_seen}"; do
    _vx_fingerprint=
    (( ! $+__vx_token_held[$_vx_name] )) || __vx_token_fingerprint $__vx_token_held[$_vx_name]
    _vx_marker+=("$_vx_name:$_vx_fingerprint")
  done
  _vx_marker+=($__vx_token_fingerprints)
  [[ $VX_TOKEN_HOOK == "${(j: :)_vx_marker} " ]] || __vx_token_export VX_TOKEN_HOOK "${(j: :)_vx_marker} "
}

# Reads the marker of the parent shell. A variable that matches is ours. One that matches a value set aside was set
# again by a start-up file, and is set aside again. Any other was set for this shell by the user.
__vx_token_import_marker() {
  local _vx_word _vx_name _vx_fingerprint
  for _vx_word in ${(s: :)VX_TOKEN_HOOK}; do
    _vx_name=${_vx_word%%[:~]*}
    __vx_token_is_allowed_name $_vx_name || builtin continue
    [[ $_vx_word != *'~'* ]] || __vx_token_fingerprints+=($_vx_word)
    [[ -v $_vx_name ]] || builtin continue
    __vx_token_fingerprint "${(P)_vx_name}"
    if [[ " $VX_TOKEN_HOOK" == *" $_vx_name:$_vx_fingerprint "* ]]; then
      __vx_token_set_variable $_vx_name "${(P)_vx_name}"
    elif [[ " $VX_TOKEN_HOOK" != *" $_vx_name~$_vx_fingerprint "* ]]; then
      __vx_token_seen[$_vx_name]=1
    fi
  done
}

# Sets _vx_fingerprint to the length and the last four characters of the ASCII part of $1. Child shells recognize a
# value by that, in any locale, and the marker need not hold a second copy of the token.
__vx_token_fingerprint() {
  builtin setopt local_options no_multibyte
  local _vx_ascii=${1//[^!-~]/}
  _vx_fingerprint=${#_vx_ascii}:
  (( ${#_vx_ascii} < 4 )) || _vx_fingerprint+=${_vx_ascii[-4,-1]}
}

# --- Status and notices -------------------------------------------------------------------------------------------

# Exports VX_TOKEN_STATUS for prompts: `gemini 42m`, `gemini gateway`, `gemini login`, `gemini expired`, `gemini
# paused`.
__vx_token_set_status() {
  local _vx_status=''
  case $__vx_token[state] in
    (ok|malformed) _vx_status=$(( (__vx_token_head[expires] - __vx_token[now]) / 60 ))m ;;
    (login|expired) _vx_status=$__vx_token[state] ;;
    (paused*|readonly*) _vx_status=paused ;;
  esac
  [[ $_vx_status != *m || $__vx_token_head[mode] != gateway ]] || _vx_status=gateway
  if [[ -n $_vx_status && -n $__vx_token_head[profile] ]]; then
    _vx_status="$__vx_token_head[profile] $_vx_status"
    [[ $VX_TOKEN_STATUS == "$_vx_status" ]] || __vx_token_export VX_TOKEN_STATUS $_vx_status
  else
    __vx_token_unset VX_TOKEN_STATUS
  fi
}

# Prints one line when the state differs from the last one printed. Before the first prompt it prints nothing,
# because powerlevel10k's instant prompt warns about any output there.
__vx_token_notify() {
  local _vx_state=$__vx_token[state] _vx_notice
  if [[ -z $__vx_token[notified] ]]; then
    __vx_token[notified]=gone
    builtin return
  fi
  __vx_token[notified]=$_vx_state
  case $_vx_state in
    (ok) builtin return ;;
    (login) _vx_notice=${__vx_token_head[notice]:-a login is required; run: vx-token status} ;;
    (expired) _vx_notice="the token of $__vx_token_head[profile] has expired; run: vx-token status" ;;
    (gone) _vx_notice="$__vx_token[file] does not exist, so the variables are unset; run: vx-token status" ;;
    (unsafe) _vx_notice="$__vx_token[file] is ignored because other users can replace it; run: vx-token status" ;;
    (foreign) _vx_notice="$__vx_token[file] is ignored because it belongs to another user" ;;
    (unreadable) _vx_notice="$__vx_token[file] cannot be read" ;;
    (malformed) _vx_notice="$__vx_token[file] is ignored because its format is invalid" ;;
    (paused*) _vx_notice="${_vx_state#* } was set in this shell and wins; run vx-token-on to resume" ;;
    (readonly*) _vx_notice="${_vx_state#* } is read-only in this shell, so no variable is set" ;;
  esac
  [[ ! -t 2 ]] || builtin print -u2 -r -- "vx-token: $_vx_notice"
}

# --- Commands for the user ----------------------------------------------------------------------------------------

# Removes our variables and the hook from this shell, and restores the user's values.
vx-token-off() {
  builtin emulate -LR zsh
  local _vx_name
  __vx_token_withdraw __vx_token_restore
  for _vx_name in "${(@k)__vx_token_aside}"; do
    [[ -v $_vx_name ]] || __vx_token_restore $_vx_name
  done
  __vx_token_aside=() __vx_token_aside_attributes=() __vx_token_fingerprints=()
  __vx_token_withdraw_token
  __vx_token_unregister
  if (( $+__vx_token[prior_profile] )); then
    __vx_token_set_profile "$__vx_token[prior_profile]"
    builtin unset '__vx_token[prior_profile]'
  fi
  __vx_token_unset VX_TOKEN_STATUS
  __vx_token_unset VX_TOKEN_HOOK
  __vx_token[off]=yes
}

# Sets our variables again. A value that the user has set in the meantime is set aside.
vx-token-on() {
  builtin emulate -LR zsh
  __vx_token_reset
  __vx_token[overriding]=yes
  __vx_token_update_variables
  __vx_token[overriding]=
  [[ ! -o interactive ]] || __vx_token_register
}

# Switches this shell, and the programs that it starts, to profile $1, or to the default profile.
vx-token-use() {
  builtin emulate -LR zsh
  local _vx_file
  __vx_token_find_file ${1:-default}
  if [[ $1 == *[^A-Za-z0-9._-]* || $1 == [.-]* || ! -d ${_vx_file%/*} ]]; then
    builtin print -u2 -r -- "vx-token: profile ${(q-)${1:-default}} does not exist"
    builtin print -u2 -r -- 'hint: run vx-token status to list the profiles, or vx-token refresh --profile NAME to fetch a first token'
    builtin return 1
  fi
  (( $+__vx_token[prior_profile] )) || __vx_token[prior_profile]=$VX_TOKEN_PROFILE
  __vx_token_set_profile "$1"
  [[ -n $__vx_token[off] ]] || __vx_token_update_variables
}

# Exports VX_TOKEN_PROFILE with the value $1, or unsets it if $1 is empty.
__vx_token_set_profile() {
  if [[ -n $1 ]]; then
    __vx_token_export VX_TOKEN_PROFILE $1
  else
    __vx_token_unset VX_TOKEN_PROFILE
  fi
}

# Forgets all state but the user's values. $1 is the state last printed, empty in a new shell: see notify.
__vx_token_reset() {
  __vx_token[file]='' __vx_token[state]=gone __vx_token[notified]=${1-gone} __vx_token[off]=''
  __vx_token[valid_until]=0
  __vx_token_seen=()
  __vx_token_clear_offer
}

# --- Older shells -------------------------------------------------------------------------------------------------

# A zsh without the module zsh/system reads files in parts of 64 bytes.
'builtin' 'zmodload' -s -F 'zsh/system' b:sysread || __vx_token_read_file() {
  { _vx_content="$(<$_vx_file)"$'\n' } 2>/dev/null
}

# --- Loading ------------------------------------------------------------------------------------------------------

# Runs once when the file is sourced; sourcing it again only updates.
__vx_token_start() {
  builtin emulate -LR zsh
  builtin typeset -gA __vx_token __vx_token_head __vx_token_offer __vx_token_held __vx_token_aside __vx_token_aside_attributes
  builtin typeset -gA __vx_token_seen __vx_token_proxied
  builtin typeset -ga __vx_token_past __vx_token_fingerprints __vx_token_higher_folders __vx_token_watched __vx_token_sticky_entries
  if [[ -z $__vx_token[loaded] ]]; then
    __vx_token_reset ''
    __vx_token_import_marker
    __vx_token[loaded]=yes
  fi
  [[ -z $__vx_token[off] ]] || builtin return 0
  __vx_token_update_variables
  [[ ! -o interactive ]] || __vx_token_register
}
__vx_token_start

[[ -z "${__vx_token_options[@]}" ]] || 'builtin' 'setopt' "${__vx_token_options[@]}"
'builtin' 'unset' '__vx_token_options'
