# shellcheck shell=bash
# vx-token for bash: keeps OPENAI_API_KEY and its companions fresh in the live shell.
#
# The runtime file <runtime>/<profile>/env.sh is read as data at each prompt and, when a prompt has waited for some
# seconds, once more between Enter and the command. Nothing in it is executed, no program is started, and the state
# lives in arrays because arrays are never exported, not even under `set -a`. docs/shell.md tells the whole story.

# Aliases are expanded when a function is read, so they are switched off until the end of this file.
if \builtin shopt -q expand_aliases; then
  __vx_token_aliases=(on)
  \builtin shopt -u expand_aliases
else
  __vx_token_aliases=()
fi

# --- where the file is, and what it says -------------------------------------------------------------------------

# Sets _vx_file for profile $1. The order is the program's own: explicit folder, XDG, the system's per-user folder, tmp.
__vx_token_find() {
  builtin local _vx_tmp
  if [[ ${VX_TOKEN_RUNTIME_DIR-} ]]; then
    _vx_file=$VX_TOKEN_RUNTIME_DIR
  elif [[ ${XDG_RUNTIME_DIR-} == /* && -d $XDG_RUNTIME_DIR && -O $XDG_RUNTIME_DIR ]]; then
    _vx_file=$XDG_RUNTIME_DIR/vx-token
  elif [[ ${OSTYPE-} == darwin* ]]; then
    _vx_file=${HOME-}/Library/Caches/TemporaryItems/vx-token
  elif [[ -d /run/user/$EUID && -O /run/user/$EUID ]]; then
    _vx_file=/run/user/$EUID/vx-token
  else
    for _vx_tmp in "${TMPDIR-}" "${TEMP-}" "${TMP-}" /tmp; do
      [[ $_vx_tmp != /* || ! -d $_vx_tmp || ! -w $_vx_tmp ]] || builtin break
    done
    _vx_file=$_vx_tmp/runtime-$EUID/vx-token
  fi
  [[ $_vx_file == /* ]] || _vx_file=$PWD/$_vx_file
  _vx_file+=/$1/env.sh
}

# Fails when another user can write to the folder $1 or replace it. The check holds until the folder changes, but for an
# entry of ours in a sticky folder: once it is removed, another user can make it anew. So these are checked at each look.
__vx_token_way_is_safe() {
  builtin local _vx_part
  [[ $1 == "${__vx_token_safe[0]}" ]] || __vx_token_check_way "$1" || builtin return 1
  for _vx_part in ${__vx_token_entries[@]+"${__vx_token_entries[@]}"}; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
}

# Each folder and link on the way to $1, as it is written and with the links resolved, must be ours or root's, and others
# may write only to sticky folders, where our entry must be no link. bash itself cannot read permissions, so `ls` does,
# once for each folder. A restricted bash has no `cd` and no `command -p`.
__vx_token_check_way() {
  builtin local _vx_way _vx_parent _vx_real _vx_mode _vx_uid _vx_rest _vx_count=0
  builtin local -a _vx_parts
  __vx_token_safe=('') __vx_token_entries=()
  [[ ! -k $1 ]] || builtin return 1
  _vx_parts=(/) _vx_real=$({ builtin cd -P -- "$1" && builtin pwd -P; } 2>&-)
  [[ $_vx_real != "$1" ]] || _vx_real=/
  for _vx_way in "$1" "$_vx_real"; do
    while [[ $_vx_way == /*[!/]* ]]; do
      [[ ! -L $_vx_way || $_vx_real ]] || builtin return 1
      _vx_parts[${#_vx_parts[@]}]=$_vx_way
      _vx_parent=${_vx_way%/*}
      if [[ -k ${_vx_parent:-/} && -O $_vx_way ]]; then
        [[ ! -L $_vx_way ]] || builtin return 1
        __vx_token_entries[${#__vx_token_entries[@]}]=$_vx_way
      fi
      _vx_way=$_vx_parent
    done
  done
  while builtin read -r _vx_mode _vx_rest _vx_uid _vx_rest; do
    [[ $_vx_uid == 0 || $_vx_uid == "$EUID" ]] || builtin return 1
    [[ $_vx_mode == l* || $_vx_mode == d????-??-* || $_vx_mode == d????????[tT]* ]] || builtin return 1
    ((_vx_count += 1))
  done <<<"$({ builtin command -p ls -dlnq -- "${_vx_parts[@]}" || builtin command ls -dlnq -- "${_vx_parts[@]}"; } 2>&-)"
  ((_vx_count == ${#_vx_parts[@]})) || builtin return 1
  __vx_token_safe=("$1")
}

# Fills _vx_lines by one open. stderr is closed meanwhile: the file may vanish after the check, a restricted shell
# has no /dev/null, and `read -d ''` would cost a system call a byte.
if ((BASH_VERSINFO[0] >= 4)); then
  __vx_token_read() { { builtin mapfile -t _vx_lines <"$_vx_file"; } 2>&-; }
else
  __vx_token_read() {
    builtin local _vx_line
    _vx_lines=()
    {
      while IFS= builtin read -r _vx_line; do
        _vx_lines[${#_vx_lines[@]}]=$_vx_line
      done <"$_vx_file"
    } 2>&-
  }
fi

# Sets _vx_now to epoch seconds. Before 4.2 only SECONDS moves by itself, so its start is asked for once, at load.
if ((BASH_VERSINFO[0] > 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 2))); then
  __vx_token_time() { builtin printf -v _vx_now '%(%s)T' -1; }
else
  [[ ${__vx_token_epoch-} ]] || __vx_token_epoch=($(($(builtin command -p date +%s) - SECONDS)))
  # shellcheck disable=SC2128 # a scalar kept in an array
  __vx_token_time() { _vx_now=$((__vx_token_epoch + SECONDS)); }
fi

# Is $1 a name that a file may set? Names are allowed by their form, as `exportable` in presets.py allows them: no list of
# the names on which shells, loaders and interpreters act is ever complete.
__vx_token_may_set() {
  case $1 in
    VX_TOKEN_EXPIRES_AT | GPTME_OPENAI_RESPONSES_API | no_proxy) builtin return 0 ;;
    '' | [0-9]* | *[!A-Za-z0-9_]*) builtin return 1 ;;
    API_BASE_URL | OPENAI_CUSTOM_HEADERS | OPENAI_ORG_ID | OPENAI_PROJECT_ID) builtin return 1 ;;
    _* | LD_* | DYLD_* | GLIBC_* | MALLOC_* | BASH* | ZSH* | zsh* | FISH* | fish* | COMP_* | HIST*) builtin return 1 ;;
    PYTHON* | PERL* | RUBY* | NODE_* | NPM_* | PIP_* | UV_* | JAVA* | GIT_* | SSH_* | VX_TOKEN_*) builtin return 1 ;;
    OPENAI_* | *_KEY | *_TOKEN | *_URL | *_URI | *_BASE | *_HOST | *_ENDPOINT | *_MODEL | *_PROVIDER) builtin return 0 ;;
    *_PROJECT | *_LOCATION | *_REGION | *_TIMEOUT | *_PROXY) builtin return 0 ;;
  esac
  builtin return 1
}

# Reads `export NAME='value'` from $1 into _vx_names and _vx_values; fails on anything else, a repeated name included.
__vx_token_parse_export() {
  builtin local "_vx_rest=${1#export }" _vx_name _vx_value _vx_i
  _vx_name=${_vx_rest%%=*}
  _vx_value=${_vx_rest#*=}
  __vx_token_may_set "$_vx_name" || builtin return 1
  [[ $_vx_value == \'?*\' ]] || builtin return 1
  _vx_value=${_vx_value:1:${#_vx_value}-2}
  [[ $_vx_value && $_vx_value != *\'* ]] || builtin return 1
  for ((_vx_i = 0; _vx_i < ${#_vx_names[@]}; _vx_i++)); do
    [[ ${_vx_names[_vx_i]} != "$_vx_name" ]] || builtin return 1
  done
  _vx_names[${#_vx_names[@]}]=$_vx_name
  _vx_values[${#_vx_values[@]}]=$_vx_value
}

# Takes _vx_lines over as the offer, all of it or nothing; a missing last line shows a truncated file.
__vx_token_parse() {
  builtin local -a _vx_names _vx_values
  builtin local _vx_line _vx_profile='' _vx_status='' _vx_expires='' _vx_mode='' _vx_notice='' _vx_i _vx_last
  _vx_names=() _vx_values=() _vx_last=$((${#_vx_lines[@]} - 1))
  ((_vx_last >= 1)) || builtin return 1
  [[ ${_vx_lines[0]} == '# vx-token env.sh 1' && ${_vx_lines[_vx_last]} == '# end' ]] || builtin return 1
  for ((_vx_i = 1; _vx_i < _vx_last; _vx_i++)); do
    _vx_line=${_vx_lines[_vx_i]}
    case $_vx_line in
      *[[:cntrl:]]* | '# end') builtin return 1 ;;
      '# profile: '*) _vx_profile=${_vx_line#'# profile: '} ;;
      '# status: '*) _vx_status=${_vx_line#'# status: '} ;;
      '# expires: '*) _vx_expires=${_vx_line#'# expires: '} ;;
      '# mode: '*) _vx_mode=${_vx_line#'# mode: '} ;;
      '# notice: '*) _vx_notice=${_vx_line#'# notice: '} ;;
      '#'*) ;;
      'export '*) __vx_token_parse_export "$_vx_line" || builtin return 1 ;;
      *) builtin return 1 ;;
    esac
  done
  [[ $_vx_profile && $_vx_profile != *[!A-Za-z0-9._-]* ]] || builtin return 1
  [[ $_vx_expires && $_vx_expires != *[!0-9]* && ${#_vx_expires} -le 12 ]] || builtin return 1
  [[ $_vx_status == fresh || $_vx_status == retrying || $_vx_status == login || $_vx_status == expired ]] || builtin return 1
  [[ $_vx_mode == direct || $_vx_mode == gateway ]] || builtin return 1
  __vx_token_profile=("$_vx_profile") __vx_token_word=("$_vx_status") __vx_token_expires=("$((10#$_vx_expires))")
  __vx_token_mode=("$_vx_mode") __vx_token_notice=("$_vx_notice")
  __vx_token_names=(${_vx_names[@]+"${_vx_names[@]}"})
  __vx_token_values=(${_vx_values[@]+"${_vx_values[@]}"})
}

__vx_token_forget() {
  __vx_token_text=() __vx_token_names=() __vx_token_values=()
  __vx_token_profile=('') __vx_token_word=('') __vx_token_expires=(0) __vx_token_mode=('') __vx_token_notice=('')
}

# Fills _vx_lines from _vx_file, or sets _vx_problem to what kept it from that: `gone` (or not a plain file), `foreign`,
# `unreadable`, `unsafe`. The folders come first: after that no other user can put something else in the file's place.
__vx_token_look_at_file() {
  if [[ ! -f $_vx_file ]]; then
    _vx_problem=gone
  elif ! __vx_token_way_is_safe "${_vx_file%/*}"; then
    _vx_problem=unsafe
  elif [[ ! -O $_vx_file ]]; then
    _vx_problem=foreign
  elif [[ ! -r $_vx_file ]]; then
    _vx_problem=unreadable
  elif __vx_token_read; then
    _vx_problem=
  else
    _vx_problem=gone
  fi
}

# Brings the offer up to date with _vx_lines. A malformed file leaves the last good offer in place: whoever wrote it is
# not the daemon, and the token in hand still lives.
__vx_token_load_offer() {
  if [[ $_vx_file != "${__vx_token_file[0]}" ]]; then
    __vx_token_file=("$_vx_file")
    __vx_token_forget
  fi
  if [[ $_vx_problem ]]; then
    __vx_token_forget
  elif [[ ! ${__vx_token_text[0]-} || ${_vx_lines[*]-} != "${__vx_token_text[0]}" ]]; then
    if __vx_token_parse; then
      __vx_token_text=("${_vx_lines[*]}")
    else
      __vx_token_text=() _vx_problem=malformed
    fi
  fi
}

# --- whose value is it -------------------------------------------------------------------------------------------

# Sets _vx_at to the place of name $1 among the names that we hold in the environment; fails when it is not there.
__vx_token_held() {
  for ((_vx_at = 0; _vx_at < ${#__vx_token_held_names[@]}; _vx_at++)); do
    [[ ${__vx_token_held_names[_vx_at]} != "$1" ]] || builtin return 0
  done
  builtin return 1
}

# Is value $2 of name $1 ours, now or earlier (direnv and tmux bring old environments back)?
__vx_token_owns() {
  builtin local _vx_at
  if __vx_token_held "$1" && [[ ${__vx_token_held_values[_vx_at]} == "$2" ]]; then
    builtin return 0
  fi
  for ((_vx_at = ${#__vx_token_past[@]} - 1; _vx_at >= 0; _vx_at--)); do
    [[ ${__vx_token_past[_vx_at]} != "$1=$2" ]] || builtin return 0
  done
  builtin return 1
}

# Remembers the last values that were ours.
__vx_token_remember() {
  ((${#__vx_token_past[@]} < 32)) || __vx_token_past=("${__vx_token_past[@]:1}")
  __vx_token_past[${#__vx_token_past[@]}]=$1=$2
}

# Does the offered value number $1 decide who is asked, or with which key? Such variables move together or not at all.
__vx_token_is_route() {
  builtin local "_vx_value=${__vx_token_values[$1]}"
  [[ $_vx_value == http://* || $_vx_value == https://* || $_vx_value == "$_vx_key" ]]
}

# Sets _vx_at to the place of name $1 among the values of the user's that are kept aside; fails when there is none.
__vx_token_kept() {
  for ((_vx_at = 0; _vx_at < ${#__vx_token_user_names[@]}; _vx_at++)); do
    [[ ${__vx_token_user_names[_vx_at]} != "$1" ]] || builtin return 0
  done
  builtin return 1
}

# Keeps the user's value of $1 aside, and whether it was exported.
__vx_token_keep() {
  builtin local _vx_at _vx_flags=x _vx_print
  # Older shells cannot tell without a fork; a key that was there before is nearly always exported.
  ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)) || _vx_flags=${!1@a}
  __vx_token_kept "$1" || _vx_at=${#__vx_token_user_names[@]}
  __vx_token_user_names[_vx_at]=$1
  __vx_token_user_values[_vx_at]=${!1}
  __vx_token_user_flags[_vx_at]=$_vx_flags
  __vx_token_fingerprint "${!1}"
  [[ ${__vx_token_taking-} || " ${__vx_token_prints[0]}" == *" $1~$_vx_print "* ]] ||
    __vx_token_prints=("${__vx_token_prints[0]}$1~$_vx_print ")
}

# Unsets $1, or sets it as the user had it; from then on it is the user's own affair, as if we had never seen it.
__vx_token_give_back() {
  builtin local _vx_i
  __vx_token_unset "$1"
  for ((_vx_i = 0; _vx_i < ${#__vx_token_user_names[@]}; _vx_i++)); do
    [[ ${__vx_token_user_names[_vx_i]} == "$1" ]] || builtin continue
    { builtin printf -v "$1" %s "${__vx_token_user_values[_vx_i]}"; } 2>&-
    [[ ${__vx_token_user_flags[_vx_i]} != *x* ]] || builtin export "${1?}"
    __vx_token_user_names[_vx_i]='' __vx_token_user_values[_vx_i]=''
    __vx_token_seen=("${__vx_token_seen[0]// $1 / }")
  done
}

# A read-only variable stays, and both fail. An attribute that would change our value (integer, upper case) goes.
__vx_token_unset() { { builtin unset -v "$1"; } 2>&-; }
__vx_token_export() { __vx_token_unset "$1" && builtin export "$1=$2"; }

# Takes the held variables out of the environment, except those among the names in $2, by `__vx_token_unset` or
# `__vx_token_give_back` ($1). What the user has put in their place stays.
__vx_token_withdraw() {
  builtin local -a _vx_names _vx_values
  builtin local _vx_i _vx_name
  _vx_names=() _vx_values=()
  for ((_vx_i = 0; _vx_i < ${#__vx_token_held_names[@]}; _vx_i++)); do
    _vx_name=${__vx_token_held_names[_vx_i]}
    if [[ " ${2-} " == *" $_vx_name "* ]]; then
      _vx_names[${#_vx_names[@]}]=$_vx_name
      _vx_values[${#_vx_values[@]}]=${__vx_token_held_values[_vx_i]}
      builtin continue
    fi
    [[ ! ${!_vx_name+x} ]] || ! __vx_token_owns "$_vx_name" "${!_vx_name}" || "$1" "$_vx_name"
    __vx_token_remember "$_vx_name" "${__vx_token_held_values[_vx_i]}"
  done
  __vx_token_held_names=(${_vx_names[@]+"${_vx_names[@]}"})
  __vx_token_held_values=(${_vx_values[@]+"${_vx_values[@]}"})
}

# Was VX_TOKEN_EXPIRES_AT set by others than us? Then so was the key: by `vx-token env`, `exec` or a sourced file.
__vx_token_is_handed() {
  builtin local _vx_at
  [[ ${VX_TOKEN_EXPIRES_AT-} ]] || builtin return 1
  ! __vx_token_held VX_TOKEN_EXPIRES_AT || [[ ${__vx_token_held_values[_vx_at]} != "$VX_TOKEN_EXPIRES_AT" ]]
}

# Is what is in the place of the offered value number $1 ours as well? The offered value itself is, and a token that was
# handed over together with our URL; one with another URL was asked for another profile or project, so it stays.
__vx_token_is_same() {
  builtin local "_vx_name=${__vx_token_names[$1]}" "_vx_value=${__vx_token_values[$1]}"
  [[ $_vx_name != VX_TOKEN_EXPIRES_AT ]] || builtin return 0
  if [[ ${!_vx_name} == "$_vx_value" ]]; then
    [[ $_vx_handed || $_vx_value == "$_vx_key" || ${__vx_token_seen[0]} == *" $_vx_name "* ]]
  else
    [[ $_vx_handed && $_vx_key && $_vx_value == *"$_vx_key"* && ${OPENAI_BASE_URL-} == "$_vx_url" ]]
  fi
}

# Is the value of $1 the one that was kept aside, here or in a parent, because a start-up file was read again?
__vx_token_is_kept() {
  builtin local _vx_at _vx_print
  __vx_token_fingerprint "${!1}"
  [[ " ${__vx_token_prints[0]}" == *" $1~$_vx_print "* ]] || builtin return 1
  if __vx_token_kept "$1"; then
    [[ ${__vx_token_user_values[_vx_at]} == "${!1}" ]]
  else
    [[ ${__vx_token_seen[0]} != *" $1 "* ]]
  fi
}

# Looks at each offered name before any is set: keeps a value from before our time aside, lists in _vx_skip what the user
# has set since, and fails, with the name in _vx_state, when that is a route. What was handed over is never kept: a token
# of ours is nothing to give back.
__vx_token_survey() {
  builtin local _vx_i _vx_name _vx_handed=''
  ! __vx_token_is_handed || _vx_handed=yes
  for ((_vx_i = 0; _vx_i < ${#__vx_token_names[@]}; _vx_i++)); do
    _vx_name=${__vx_token_names[_vx_i]}
    if [[ ! ${!_vx_name+x} ]] || __vx_token_owns "$_vx_name" "${!_vx_name}"; then
      builtin continue
    elif __vx_token_is_kept "$_vx_name"; then
      __vx_token_keep "$_vx_name"
    elif __vx_token_is_same "$_vx_i"; then
      builtin continue
    elif __vx_token_is_route "$_vx_i" &&
      [[ ($_vx_handed && ! ${__vx_token_taking-}) || ${__vx_token_seen[0]} == *" $_vx_name "* ]]; then
      _vx_state="paused $_vx_name"
      builtin return 1
    elif [[ ${__vx_token_seen[0]} == *" $_vx_name "* ]]; then
      _vx_skip+=" $_vx_name "
    elif [[ ! $_vx_handed ]] || ! __vx_token_is_route "$_vx_i"; then
      __vx_token_keep "$_vx_name"
    fi
  done
}

# Puts one variable into the environment and remembers that it is ours; fails when it is read-only.
__vx_token_put() {
  builtin local _vx_at
  __vx_token_export "$1" "$2" || builtin return 1
  [[ ${__vx_token_seen[0]} == *" $1 "* ]] || __vx_token_seen=("${__vx_token_seen[0]}$1 ")
  if ! __vx_token_held "$1"; then
    __vx_token_held_names[_vx_at]=$1
  elif [[ ${__vx_token_held_values[_vx_at]} != "$2" ]]; then
    __vx_token_remember "$1" "${__vx_token_held_values[_vx_at]}"
  fi
  __vx_token_held_values[_vx_at]=$2
}

# Makes the environment say what the offer says, or, when it cannot all be said, nothing of it.
__vx_token_apply() {
  builtin local _vx_i _vx_name _vx_skip='' _vx_offered=' ' _vx_key='' _vx_url=''
  for ((_vx_i = 0; _vx_i < ${#__vx_token_names[@]}; _vx_i++)); do
    _vx_offered+="${__vx_token_names[_vx_i]} "
    case ${__vx_token_names[_vx_i]} in
      OPENAI_API_KEY) _vx_key=${__vx_token_values[_vx_i]} ;;
      OPENAI_BASE_URL) _vx_url=${__vx_token_values[_vx_i]} ;;
    esac
  done
  if __vx_token_survey; then
    __vx_token_withdraw __vx_token_give_back "$_vx_offered"
    for ((_vx_i = 0; _vx_i < ${#__vx_token_names[@]}; _vx_i++)); do
      _vx_name=${__vx_token_names[_vx_i]}
      [[ $_vx_skip != *" $_vx_name "* ]] || builtin continue
      __vx_token_put "$_vx_name" "${__vx_token_values[_vx_i]}" || { _vx_state="readonly $_vx_name" && builtin break; }
    done
  fi
  case $_vx_state in
    paused* | readonly*) __vx_token_withdraw __vx_token_give_back ;;
  esac
  __vx_token_mark
}

# Sets _vx_print to how a child shell knows value $1 again, in any locale: length and last four characters of its ASCII.
__vx_token_fingerprint() {
  { builtin local LC_ALL=C; } 2>&-
  builtin local "_vx_text=${1//[!!-~]/}"
  _vx_print=${#_vx_text}:
  ((${#_vx_text} < 4)) || _vx_print+=${_vx_text: -4}
}

# Tells child shells that there is a hook, and whose the values of which names are: ours (`NAME:` and the fingerprint),
# set by hand in this shell or not there (`NAME:` alone), or kept aside (`NAME~` and the fingerprint).
__vx_token_mark() {
  builtin local _vx_name _vx_at _vx_print _vx_mark='1 '
  for _vx_name in ${__vx_token_seen[0]}; do
    _vx_print=
    ! __vx_token_held "$_vx_name" || __vx_token_fingerprint "${__vx_token_held_values[_vx_at]}"
    _vx_mark+="$_vx_name:$_vx_print "
  done
  _vx_mark+=${__vx_token_prints[0]}
  [[ ${VX_TOKEN_HOOK-} == "$_vx_mark" ]] || __vx_token_export VX_TOKEN_HOOK "$_vx_mark"
}

# Reads the parent's mark: a value that fits is ours already; one that the parent kept aside was set again by a start-up
# file and is kept again; any other was put there for this shell by hand.
__vx_token_inherit() {
  builtin local "_vx_mark='' ${VX_TOKEN_HOOK-}" _vx_rest _vx_word _vx_name _vx_print
  _vx_rest=${_vx_mark# }
  while [[ $_vx_rest == *' '* ]]; do
    _vx_word=${_vx_rest%% *} _vx_rest=${_vx_rest#* }
    _vx_name=${_vx_word%%[:~]*}
    __vx_token_may_set "$_vx_name" || builtin continue
    [[ $_vx_word != *'~'* ]] || __vx_token_prints=("${__vx_token_prints[0]}$_vx_word ")
    [[ ${!_vx_name+x} ]] || builtin continue
    __vx_token_fingerprint "${!_vx_name}"
    if [[ $_vx_mark == *" $_vx_name:$_vx_print "* ]]; then
      __vx_token_put "$_vx_name" "${!_vx_name}"
    elif [[ $_vx_mark != *" $_vx_name~$_vx_print "* && ${__vx_token_seen[0]} != *" $_vx_name "* ]]; then
      __vx_token_seen=("${__vx_token_seen[0]}$_vx_name ")
    fi
  done
}

# --- the one path --------------------------------------------------------------------------------------------------

# In gateway mode the loopback must not go through a proxy. What we add is a suffix, so taking it back needs no memory.
__vx_token_no_proxy() {
  builtin local _vx_name _vx_suffix=127.0.0.1,localhost
  for _vx_name in NO_PROXY no_proxy; do
    if [[ $1 == add ]]; then
      [[ ${HTTP_PROXY-}${http_proxy-}${HTTPS_PROXY-}${https_proxy-}${ALL_PROXY-}${all_proxy-} ]] || builtin continue
      [[ ${!_vx_name-} != '*' && ,${!_vx_name-}, != *,127.0.0.1,* ]] || builtin continue
      __vx_token_export "$_vx_name" "${!_vx_name:+${!_vx_name},}$_vx_suffix"
      __vx_token_proxied=("${__vx_token_proxied[0]-} $_vx_name ")
    elif [[ ${__vx_token_proxied[0]-} == *" $_vx_name "* && ${!_vx_name-} == *"$_vx_suffix" ]]; then
      __vx_token_trim_no_proxy "$_vx_name" "${!_vx_name%"$_vx_suffix"}"
    fi
  done
  [[ $1 == add ]] || __vx_token_proxied=()
}

__vx_token_trim_no_proxy() {
  if [[ $2 ]]; then
    __vx_token_export "$1" "${2%,}"
  else
    __vx_token_unset "$1"
  fi
}

# Brings the variables up to date with the file. __vx_token_state becomes: ok, login, expired, malformed, gone, unsafe,
# foreign, unreadable, `paused NAME` or `readonly NAME`; __vx_token_due the second from which the next command asks again.
__vx_token_sync() {
  builtin local _vx_file _vx_problem _vx_now _vx_lines _vx_state=ok
  __vx_token_find "${VX_TOKEN_PROFILE:-default}"
  __vx_token_look_at_file
  __vx_token_time
  __vx_token_now=("$_vx_now")
  __vx_token_until=(0)
  __vx_token_due=("$_vx_now")
  __vx_token_load_offer
  if ((!${#__vx_token_names[@]})); then
    _vx_state=${_vx_problem:-expired}
    __vx_token_hide
  elif [[ ${__vx_token_mode[0]} == direct ]] && ((_vx_now >= __vx_token_expires)); then
    _vx_state=expired
    __vx_token_hide
  else
    __vx_token_provide
  fi
  [[ ${__vx_token_word[0]} != login || ($_vx_state != ok && $_vx_state != expired) ]] || _vx_state=login
  __vx_token_state=("$_vx_state")
}

# A prompt that is this young is still right, unless its token ends before.
__vx_token_wait() {
  __vx_token_due=("$((_vx_now + 2))")
  ((__vx_token_due < __vx_token_expires)) || [[ ${__vx_token_mode[0]} == gateway ]] || __vx_token_due=("${__vx_token_expires[0]}")
}

# Nothing is alive: what we hold goes, and what the user had stays aside, for a dead token must not send the next
# command to another provider on another bill.
__vx_token_hide() {
  __vx_token_withdraw __vx_token_unset
  __vx_token_no_proxy remove
  __vx_token_mark
}

__vx_token_provide() {
  __vx_token_apply
  __vx_token_wait
  if [[ ${__vx_token_mode[0]} == gateway && $_vx_state == ok ]]; then
    __vx_token_no_proxy add
  else
    __vx_token_no_proxy remove
  fi
  [[ $_vx_state != ok || ! $_vx_problem ]] || _vx_state=$_vx_problem
}

# VX_TOKEN_STATUS, for prompts: `gemini 42m`, `gemini gateway`, `gemini login`, `gemini expired`, `gemini paused`.
__vx_token_show() {
  builtin local _vx_text=''
  case ${__vx_token_state[0]} in
    ok | malformed)
      _vx_text=$(((__vx_token_expires - __vx_token_now) / 60))m
      [[ ${__vx_token_mode[0]} != gateway ]] || _vx_text=gateway
      ;;
    login | expired) _vx_text=${__vx_token_state[0]} ;;
    paused* | readonly*) _vx_text=paused ;;
  esac
  _vx_text="${__vx_token_profile[0]} $_vx_text"
  if [[ $_vx_text == ' '* || $_vx_text == *' ' ]]; then
    __vx_token_unset VX_TOKEN_STATUS
  elif [[ ${VX_TOKEN_STATUS-} != "$_vx_text" ]]; then
    __vx_token_export VX_TOKEN_STATUS "$_vx_text"
  fi
}

# One line for the user when the state is not the one last told; nothing before the first prompt.
__vx_token_tell() {
  builtin local "_vx_state=${__vx_token_state[0]}" _vx_text
  if [[ ! ${__vx_token_said[0]} ]]; then
    __vx_token_said=(gone)
    builtin return 0
  fi
  __vx_token_said=("$_vx_state")
  case $_vx_state in
    ok) builtin return 0 ;;
    login) _vx_text=${__vx_token_notice[0]:-a human must log in; run: vx-token status} ;;
    expired) _vx_text="the token of ${__vx_token_profile[0]} has ended and there is no new one; run: vx-token status" ;;
    gone) _vx_text="${__vx_token_file[0]} is gone, the variables are withdrawn; run: vx-token status" ;;
    unsafe) _vx_text="${__vx_token_file[0]} is ignored: other users can replace it; run: vx-token status" ;;
    foreign) _vx_text="${__vx_token_file[0]} belongs to another user and is ignored" ;;
    unreadable) _vx_text="${__vx_token_file[0]} cannot be read" ;;
    malformed) _vx_text="${__vx_token_file[0]} is not as vx-token writes it and is ignored" ;;
    paused*) _vx_text="${_vx_state#* } was set in this shell and wins; to have ours back: vx-token-on" ;;
    readonly*) _vx_text="${_vx_state#* } is read-only in this shell, so nothing is set" ;;
  esac
  [[ ! -t 2 ]] || builtin printf 'vx-token: %s\n' "$_vx_text" >&2
}

# --- when nothing has changed --------------------------------------------------------------------------------------

# Is the file's text and is each variable on which a look depends what the last look noted, and has nothing expired since?
# Nearly always it is so, hence one function of few commands. A folder of a higher rank than the file's may appear at any
# time. Under `set -x` the whole look is taken, which switches the trace off.
__vx_token_unchanged() {
  builtin local "_vx_file=${__vx_token_file[0]}" _vx_lines _vx_values _vx_now _vx_part
  [[ ${__vx_token_until[0]-0} != 0 && $- != *x* ]] || builtin return 1
  for _vx_part in ${__vx_token_entries[@]+"${__vx_token_entries[@]}"}; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
  [[ ! -d ${__vx_token_above[0]-} && ! -d ${__vx_token_above[1]-} && -f $_vx_file && -O $_vx_file && -r $_vx_file ]] &&
    { builtin mapfile -t _vx_lines <"$_vx_file"; } 2>&- || builtin return 1
  __vx_token_collect
  [[ ${_vx_lines[*]-} == "${__vx_token_text[0]}" && $_vx_values == "${__vx_token_noted[0]}" ]] || builtin return 1
  builtin printf -v _vx_now '%(%s)T' -1
  ((__vx_token_from <= _vx_now && _vx_now < __vx_token_until)) || builtin return 1
  __vx_token_wait
}

# Sets _vx_values to the values of all variables on which a look depends: the file's place, what every file sets, and
# the names in __vx_token_extra.
__vx_token_collect() {
  builtin local _vx_name
  _vx_values="${VX_TOKEN_RUNTIME_DIR-}|${VX_TOKEN_PROFILE-}|${XDG_RUNTIME_DIR-}|${TMPDIR-}|${TEMP-}|${TMP-}|${HOME-}|"
  _vx_values+="${OPENAI_API_KEY-}|${OPENAI_BASE_URL-}|${OPENAI_API_BASE-}|${OPENAI_API_BASE_URL-}|"
  _vx_values+="${OPENAI_AGENTS_DISABLE_TRACING-}|${VX_TOKEN_EXPIRES_AT-}|${VX_TOKEN_STATUS-}|${PS0-}|${BASHOPTS-}"
  for _vx_name in ${__vx_token_extra[@]+"${__vx_token_extra[@]}"}; do
    _vx_values+="|${!_vx_name-}"
  done
}

# Notes what __vx_token_unchanged compares, good until the shown minutes change. What could not be read, or has not been
# told yet, is looked at again. bash before 4.2 has no clock of its own and takes the whole look at each prompt.
__vx_token_note() {
  builtin local _vx_values _vx_name "_vx_left=$((__vx_token_expires - __vx_token_now))"
  ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 402)) || builtin return 0
  [[ ${__vx_token_text[0]-} && ${__vx_token_state[0]} == "${__vx_token_said[0]}" ]] || builtin return 0
  __vx_token_above=()
  if [[ ! ${VX_TOKEN_RUNTIME_DIR-} && ${__vx_token_file[0]} != "${XDG_RUNTIME_DIR-}"/vx-token/* ]]; then
    __vx_token_above=("${XDG_RUNTIME_DIR-}")
    [[ ${__vx_token_file[0]} == "/run/user/$EUID"/* ]] || __vx_token_above+=("/run/user/$EUID")
  fi
  __vx_token_extra=()
  for _vx_name in ${__vx_token_names[@]+"${__vx_token_names[@]}"}; do
    case $_vx_name in
      OPENAI_API_KEY | OPENAI_BASE_URL | OPENAI_API_BASE | OPENAI_API_BASE_URL) ;;
      OPENAI_AGENTS_DISABLE_TRACING | VX_TOKEN_EXPIRES_AT) ;;
      *) __vx_token_extra+=("$_vx_name") ;;
    esac
  done
  if [[ ${__vx_token_mode[0]} == gateway ]]; then
    __vx_token_extra+=(HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy NO_PROXY no_proxy)
    _vx_left=60
  elif ((_vx_left >= 60)); then
    _vx_left=$((_vx_left % 60 + 1))
  fi
  __vx_token_collect
  __vx_token_noted=("$_vx_values")
  __vx_token_from=("${__vx_token_now[0]}") __vx_token_until=("$((__vx_token_now + _vx_left))")
}

# --- where bash calls us -------------------------------------------------------------------------------------------

# First in PROMPT_COMMAND, so that hooks which arm a DEBUG trap at the end of the prompt (VS Code, starship,
# bash-preexec) do not take it for the user's command. The commands after it see the $? and the PIPESTATUS of the user's
# command: the inner loop returns the status of its body, which __vx_token_prompt returns unchanged, and no simple command
# runs after the third expression, which assigns PIPESTATUS again. Left of `&&` a status other than 0 neither ends a
# shell under `set -e` nor calls an ERR trap. In a child shell that inherits an exported PROMPT_COMMAND the array is not
# set and the loops have no turn. No expression may be empty: bash before 5.2.16 crashes on that.
# The outer loop is there for its list, which bash expands before a DEBUG trap fires. After an empty line or a pipeline of
# subshells VS Code still waits for a command, and would take this one for it; its flag says that a command is running.
# shellcheck disable=SC2016 # bash expands it at each prompt
__vx_token_entry=('for __vx_token_turn in ${__vx_token_pending+"$((${__vsc_in_command_execution+__vx_token_vscode=__vsc_in_command_execution,__vsc_in_command_execution=}1))"}; do for ((__vx_token_pending=1; __vx_token_pending||${__vsc_in_command_execution+(__vsc_in_command_execution=__vx_token_vscode)*}0; __vx_token_pending=0, ${__vx_token_pipestatus-0})); do __vx_token_prompt "${PIPESTATUS[@]}" && [[ 1 ]]; done; done')

# PS0 is expanded after Enter and before the command. It compares the clock with the due second in an array subscript,
# which costs no fork; only when the prompt has waited that long does a subshell read the file, and only when the
# variables must change does it raise URG, a signal that is ignored by default and that nothing else in a shell uses. Its
# trap runs in this shell before the command starts. The outer subscript is an expression, so that what the subshell
# prints can assign variables of this shell.
# shellcheck disable=SC2016 # bash expands it at each command
__vx_token_ps0=('${__vx_token_gate[\D{%s}>=${__vx_token_due-0}]+${__vx_token_gate[0$(__vx_token_wake)]-}}')
__vx_token_gate=([1]=due)

# Runs in a subshell between Enter and the command. If the trap has become the user's, it is not called for nothing.
__vx_token_wake() {
  __vx_token_is_last && __vx_token_quietly __vx_token_is_outdated || builtin return 0
  [[ $(builtin trap -p URG) == *__vx_token_before_command* ]] || builtin return 0
  __vx_token_print_pause
  builtin kill -URG $$
}

# Until 5.2 a pending trap also runs while a later substitution of PS0 is read, which can end the shell. Others may have
# appended one since the prompt.
__vx_token_is_last() { [[ ${PS0##*"${__vx_token_ps0[0]}"} != *['$`']* ]]; }

# Must the variables change, although nothing but time and the daemon can have changed something since the prompt?
__vx_token_is_outdated() {
  builtin local _vx_file _vx_problem _vx_now _vx_lines
  [[ ! ${__vx_token_off-} ]] || builtin return 1
  __vx_token_find "${VX_TOKEN_PROFILE:-default}"
  __vx_token_look_at_file
  __vx_token_time
  [[ $_vx_problem || ${_vx_lines[*]-} == "${__vx_token_text[0]-}" ]] || builtin return 0
  ((${#__vx_token_held_names[@]})) || builtin return 1
  [[ $_vx_problem ]] || { [[ ${__vx_token_mode[0]} == direct ]] && ((_vx_now >= __vx_token_expires)); }
}

# A DEBUG trap would fire for the command of our trap as well, with the command before in BASH_COMMAND, and what it calls
# would take that for the user's command. These are the flags by which bash-preexec (and with it atuin, iTerm2, WezTerm)
# and VS Code keep their own commands out. Prints the assignments that set them; `__vx_token_resume` takes that back.
__vx_token_print_pause() {
  [[ ${__bp_inside_preexec-} != 0 ]] || builtin printf ',__bp_inside_preexec=__vx_token_paused[0]=1'
  [[ ${__vsc_in_command_execution-} != 0 ]] || builtin printf ',__vsc_in_command_execution=__vx_token_paused[1]=1'
  builtin printf ',0'
}

__vx_token_resume() {
  [[ ! ${__vx_token_paused[0]-} ]] || __bp_inside_preexec=0
  [[ ! ${__vx_token_paused[1]-} ]] || __vsc_in_command_execution=0
  __vx_token_paused=()
}

# Runs "$@" without the options that would show a value (v, x), export a copy (a), take a value for an assignment (k) or
# end the shell at a read-only name (e); fails as it does.
__vx_token_quietly() {
  builtin local "_vx_flags=${-//[!aekvx]/}" "_vx_code=0"
  [[ ! $_vx_flags ]] || builtin set +aekvx
  # Until 4.3 an empty IFS joins the elements of an array that is copied.
  [[ ${IFS-} == $' \t\n' ]] || { builtin local IFS=$' \t\n'; } 2>&-
  "$@" || _vx_code=$?
  [[ ! $_vx_flags ]] || builtin set "-$_vx_flags"
  builtin return "$_vx_code"
}

# $? and PIPESTATUS are bash's own care around a trap; $_ is kept by being the last argument of the call.
__vx_token_before_command() {
  [[ ${__vx_token_off-} ]] || __vx_token_unchanged || __vx_token_quietly __vx_token_sync
  __vx_token_resume
}

# Called with the elements of PIPESTATUS; returns the $? that it found.
__vx_token_prompt() {
  builtin local "_vx_code=$?"
  __vx_token_pipestatus=("PIPESTATUS[0]=$1")
  (($# == 1)) || __vx_token_hold_pipestatus "$@"
  [[ ${__vx_token_off-} ]] || __vx_token_unchanged || __vx_token_quietly __vx_token_at_prompt
  builtin return "$_vx_code"
}

__vx_token_hold_pipestatus() {
  builtin local "_vx_assign=0" "_vx_i=0" _vx_status
  for _vx_status; do
    _vx_assign+=",PIPESTATUS[$((_vx_i++))]=$_vx_status"
  done
  __vx_token_pipestatus=("$_vx_assign")
}

__vx_token_at_prompt() {
  __vx_token_sync
  __vx_token_show
  [[ ${__vx_token_state[0]} == "${__vx_token_said[0]}" ]] || __vx_token_tell
  __vx_token_heal_ps0
  __vx_token_note
}

# Puts our piece last in PS0, see __vx_token_is_last. Others rewrite PS0, hence at each prompt. Without promptvars the
# piece would be shown as text, so it leaves.
__vx_token_heal_ps0() {
  builtin local "_vx_piece=${__vx_token_ps0[0]}" _vx_ps0
  _vx_ps0=${PS0-}
  [[ ${__vx_token_trap-} ]] || builtin return 0
  if [[ :$BASHOPTS: != *:promptvars:* ]]; then
    _vx_piece=
  elif [[ $_vx_ps0 == *"$_vx_piece" ]]; then
    builtin return 0
  fi
  { builtin printf -v PS0 %s "${_vx_ps0//"${__vx_token_ps0[0]}"/}$_vx_piece"; } 2>&-
}

# bash < 4.4 has no PS0. A URG trap of the user's own stays, and the prompt is then the only moment.
__vx_token_arm() {
  builtin local _vx_trap
  ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || builtin return 0
  _vx_trap=$(builtin trap -p URG)
  [[ ! $_vx_trap || $_vx_trap == *__vx_token_before_command* ]] || builtin return 0
  builtin trap '__vx_token_before_command "$_"' URG
  __vx_token_trap=(set)
  __vx_token_heal_ps0
}

__vx_token_disarm() {
  [[ ${__vx_token_trap-} && $(builtin trap -p URG) == *__vx_token_before_command* ]] || builtin return 0
  builtin trap - URG
  __vx_token_trap=()
}

__vx_token_register() {
  __vx_token_pending=(0) __vx_token_pipestatus=(0) __vx_token_turn=() __vx_token_vscode=() __vx_token_paused=()
  __vx_token_arm
  [[ ${PROMPT_COMMAND[*]-} != *"${__vx_token_entry[0]}"* ]] || builtin return 0
  # An assignment to an array is one to its first element, which is what we want; printf survives a read-only one.
  { builtin printf -v PROMPT_COMMAND '%s%s' "${__vx_token_entry[0]}" "${PROMPT_COMMAND:+$'\n'$PROMPT_COMMAND}"; } 2>&-
}

__vx_token_unregister() {
  builtin local _vx_i _vx_text _vx_rest
  builtin unset -v __vx_token_pending
  __vx_token_disarm
  { [[ ! ${PS0-} ]] || builtin printf -v PS0 %s "${PS0//"${__vx_token_ps0[0]}"/}"; } 2>&-
  for _vx_i in ${PROMPT_COMMAND[@]+"${!PROMPT_COMMAND[@]}"}; do
    _vx_text=${PROMPT_COMMAND[_vx_i]}
    # Not by `//`, which does not find a quoted text in bash 3.2.
    while [[ $_vx_text == *"${__vx_token_entry[0]}"* ]]; do
      _vx_rest=${_vx_text#*"${__vx_token_entry[0]}"}
      _vx_text=${_vx_text%%"${__vx_token_entry[0]}"*}${_vx_rest#$'\n'}
    done
    if ((_vx_i)); then
      PROMPT_COMMAND[_vx_i]=$_vx_text
    else
      { builtin printf -v PROMPT_COMMAND %s "$_vx_text"; } 2>&-
    fi
  done
}

# --- what the user calls -------------------------------------------------------------------------------------------

# A new shell has told nothing yet ($1 is empty): see __vx_token_tell.
__vx_token_reset() {
  __vx_token_file=('')
  __vx_token_forget
  __vx_token_state=(gone) __vx_token_said=("${1-gone}") __vx_token_due=(0) __vx_token_from=(0) __vx_token_until=(0)
  __vx_token_seen=(' ') __vx_token_off=()
}

# Takes our variables, and the hook itself, out of this shell and gives back what was there before.
__vx_token_turn_off() {
  builtin local _vx_name
  __vx_token_withdraw __vx_token_give_back
  for _vx_name in ${__vx_token_user_names[@]+"${__vx_token_user_names[@]}"}; do
    [[ ! $_vx_name || ${!_vx_name+x} ]] || __vx_token_give_back "$_vx_name"
  done
  __vx_token_user_names=() __vx_token_user_values=() __vx_token_user_flags=() __vx_token_prints=('')
  __vx_token_hide
  __vx_token_unregister
  if [[ ${__vx_token_chosen+x} ]]; then
    __vx_token_choose "${__vx_token_chosen[0]}"
    builtin unset -v __vx_token_chosen
  fi
  __vx_token_unset VX_TOKEN_STATUS
  __vx_token_unset VX_TOKEN_HOOK
  __vx_token_off=(yes)
}

# Brings them back, also over a value that was set by hand in the meantime, which is then the one kept aside.
__vx_token_turn_on() {
  __vx_token_reset
  __vx_token_taking=(yes)
  __vx_token_sync
  __vx_token_taking=()
  [[ $- != *i* ]] || __vx_token_register
  builtin return 0
}

# Names profile $1 for this shell and what it starts, or none.
__vx_token_choose() {
  if [[ $1 ]]; then
    __vx_token_export VX_TOKEN_PROFILE "$1"
  else
    __vx_token_unset VX_TOKEN_PROFILE
  fi
}

# Switches this shell, and what it starts, to another profile; without a name back to the default one.
__vx_token_use() {
  builtin local _vx_file
  __vx_token_find "${1:-default}"
  if [[ ${1-} == *[!A-Za-z0-9._-]* || ${1-} == [.-]* || ! -d ${_vx_file%/*} ]]; then
    builtin printf 'vx-token: there is no profile %q here\nhint: vx-token status lists them; vx-token refresh --profile NAME fetches a first token\n' "${1:-default}" >&2
    builtin return 1
  fi
  [[ ${__vx_token_chosen+x} ]] || __vx_token_chosen=("${VX_TOKEN_PROFILE-}")
  __vx_token_choose "${1-}"
  [[ ${__vx_token_off-} ]] || __vx_token_sync
}

# --- loading -------------------------------------------------------------------------------------------------------

# POSIX mode has no hyphens in function names, but it has them in aliases.
if [[ :$SHELLOPTS: == *:posix:* ]]; then
  builtin alias vx-token-on='__vx_token_quietly __vx_token_turn_on'
  builtin alias vx-token-off='__vx_token_quietly __vx_token_turn_off'
  builtin alias vx-token-use='__vx_token_quietly __vx_token_use'
else
  vx-token-on() { __vx_token_quietly __vx_token_turn_on; }
  vx-token-off() { __vx_token_quietly __vx_token_turn_off; }
  vx-token-use() { __vx_token_quietly __vx_token_use "$@"; }
fi

__vx_token_start() {
  if [[ ! ${__vx_token_loaded-} ]]; then
    __vx_token_names=() __vx_token_values=() __vx_token_held_names=() __vx_token_held_values=() __vx_token_past=()
    __vx_token_user_names=() __vx_token_user_values=() __vx_token_user_flags=() __vx_token_proxied=('')
    __vx_token_prints=('') __vx_token_taking=() __vx_token_safe=('') __vx_token_entries=()
    __vx_token_reset ''
    __vx_token_inherit
    __vx_token_loaded=(yes)
  fi
  [[ ! ${__vx_token_off-} ]] || builtin return 0
  __vx_token_sync
  [[ $- != *i* ]] || __vx_token_register
  builtin return 0
}
__vx_token_quietly __vx_token_start

[[ ! ${__vx_token_aliases-} ]] || builtin shopt -s expand_aliases
\builtin unset -v __vx_token_aliases
