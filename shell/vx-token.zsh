# vx-token for zsh: keeps OPENAI_API_KEY and its companions fresh in the live shell.
#
# The runtime file <runtime>/<profile>/env.sh is read as data at each prompt and before each command. Nothing in it is
# executed, no process is forked, and the state lives in arrays because arrays are never exported, not even under
# ALL_EXPORT. Every way in starts with `emulate -LR zsh`, so the user's options do not matter; the functions further in
# inherit that. docs/shell.md tells the whole story.

# Aliases and these options matter when a function is read, so they are switched off until the end of this file.
'builtin' 'typeset' '-ga' '__vx_token_options'
__vx_token_options=()
[[ ! -o 'aliases' ]] || __vx_token_options+=('aliases')
[[ ! -o 'sh_glob' ]] || __vx_token_options+=('sh_glob')
[[ ! -o 'ignore_braces' ]] || __vx_token_options+=('ignore_braces')
[[ ! -o 'ignore_close_braces' ]] || __vx_token_options+=('ignore_close_braces')
[[ ! -o 'csh_junkie_loops' ]] || __vx_token_options+=('csh_junkie_loops')
[[ ! -o 'csh_junkie_quotes' ]] || __vx_token_options+=('csh_junkie_quotes')
'builtin' 'unsetopt' 'aliases' 'sh_glob' 'ignore_braces' 'ignore_close_braces' 'csh_junkie_loops' 'csh_junkie_quotes'

# --- where the file is, and what it says -------------------------------------------------------------------------

# Sets _vx_file for profile $1. The order is the program's own: explicit folder, XDG, the system's per-user folder, tmp.
__vx_token_find() {
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

# Fails when another user can write to the folder $1 or replace it. The check holds until the folder changes, but for an
# entry of ours in a sticky folder: once it is removed, another user can make it anew. So these are checked at each look.
__vx_token_way_is_safe() {
  local _vx_part
  [[ $1 == "$__vx_token[safe]" ]] || __vx_token_check_way $1 || builtin return 1
  for _vx_part in $__vx_token_entries; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
}

# Each folder and link on the way to $1, as it is written and with the links resolved, must be ours or root's, and others
# may write only to sticky folders, where our entry must be no link.
__vx_token_check_way() {
  local _vx_way _vx_parent
  local -a _vx_parts
  local -A _vx_info
  __vx_token[safe]='' __vx_token_entries=()
  [[ ! -k $1 ]] && builtin zmodload -s -F zsh/stat b:zstat || builtin return 1
  _vx_parts=(/)
  for _vx_way in $1 ${${1:A}:#$1}; do
    while [[ $_vx_way == /*[^/]* ]]; do
      _vx_parts+=($_vx_way)
      _vx_parent=${_vx_way%/*}
      if [[ -k ${_vx_parent:-/} && -O $_vx_way ]]; then
        [[ ! -L $_vx_way ]] || builtin return 1
        __vx_token_entries+=($_vx_way)
      fi
      _vx_way=$_vx_parent
    done
  done
  for _vx_way in $_vx_parts; do
    builtin zstat -LH _vx_info -- $_vx_way 2>/dev/null || builtin return 1
    (( _vx_info[uid] == 0 || _vx_info[uid] == EUID )) || builtin return 1
    (( (_vx_info[mode] & 8#170000) == 8#120000 || !(_vx_info[mode] & 8#022) || _vx_info[mode] & 8#1000 )) || builtin return 1
  done
  __vx_token[safe]=$1
}

# Sets _vx_now to epoch seconds: a prompt escape needs no module.
__vx_token_time() {
  local _vx_format='%D{%s}'
  _vx_now=${(%)_vx_format}
}

# Is $1 a name that a file may set? Names are allowed by their form, as `exportable` in presets.py allows them: no list of
# the names on which shells, loaders and interpreters act is ever complete.
__vx_token_may_set() {
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

# Reads `export NAME='value'` from $1 into _vx_offer; fails on anything else, a repeated name included.
__vx_token_parse_export() {
  local _vx_name=${${1#export }%%\=*} _vx_value=${1#*\=}
  __vx_token_may_set $_vx_name || builtin return 1
  [[ $_vx_value == \'?*\' && ${#_vx_value} -gt 2 && -z $_vx_offer[$_vx_name] ]] || builtin return 1
  _vx_value=${_vx_value[2,-2]}
  [[ $_vx_value != *\'* ]] || builtin return 1
  _vx_offer[$_vx_name]=$_vx_value
}

# Takes _vx_text over as the offer, all of it or nothing; a missing last line shows a truncated file.
__vx_token_parse() {
  local -A _vx_offer _vx_head
  local -a _vx_lines
  local _vx_line _vx_key
  [[ $_vx_text == *$'\n' ]] || builtin return 1
  _vx_lines=("${(@f)${_vx_text%$'\n'}}")
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

__vx_token_forget() {
  __vx_token[text]=''
  __vx_token_head=() __vx_token_offer=()
}

# Sets _vx_text to the text of _vx_file by one open; the file may vanish after the check, hence no stderr.
# `$(<file)` does not fork, but it takes a system call for each 64 bytes.
if 'builtin' 'zmodload' -s -F 'zsh/system' b:sysread; then
  __vx_token_read() {
    local _vx_part
    _vx_text=
    {
      while builtin sysread _vx_part; do
        _vx_text+=$_vx_part
      done <$_vx_file
    } 2>/dev/null
  }
else
  __vx_token_read() {
    { _vx_text="$(<$_vx_file)"$'\n' } 2>/dev/null
  }
fi

# Sets _vx_text to the text of _vx_file, or _vx_problem to what kept it from that: `gone` (or not a plain file),
# `foreign`, `unreadable`, `unsafe`. The folders come first: after that no other user can put something else in the
# file's place.
__vx_token_look_at_file() {
  if [[ ! -f $_vx_file ]]; then
    _vx_problem=gone
  elif ! __vx_token_way_is_safe ${_vx_file%/*}; then
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

# Brings the offer up to date with _vx_text. A malformed file leaves the last good offer in place: whoever wrote it is
# not the daemon, and the token in hand still lives.
__vx_token_load_offer() {
  if [[ $_vx_file != $__vx_token[file] ]]; then
    __vx_token[file]=$_vx_file
    __vx_token_forget
  fi
  if [[ -n $_vx_problem ]]; then
    __vx_token_forget
  elif [[ $_vx_text != "$__vx_token[text]" || -z $_vx_text ]]; then
    if __vx_token_parse; then
      __vx_token[text]=$_vx_text
    else
      __vx_token[text]='' _vx_problem=malformed
    fi
  fi
}

# --- whose value is it -------------------------------------------------------------------------------------------

# Is the value of name $1 ours, now or earlier (direnv and tmux bring old environments back)?
__vx_token_owns() {
  (( $+__vx_token_held[$1] )) && [[ ${(P)1} == "$__vx_token_held[$1]" ]] || (( $__vx_token_past[(Ie)$1=${(P)1}] ))
}

# Remembers the last values that were ours.
__vx_token_remember() {
  __vx_token_past=("${(@)__vx_token_past[-31,-1]}" "$1=$__vx_token_held[$1]")
}

# Does the offered value of $1 decide who is asked, or with which key? Such variables move together or not at all.
__vx_token_is_route() {
  [[ $__vx_token_offer[$1] == (http|https)://* || $__vx_token_offer[$1] == "$__vx_token_offer[OPENAI_API_KEY]" ]]
}

# Keeps the user's value of $1 aside, and whether it was exported.
__vx_token_keep() {
  local _vx_print
  __vx_token_user[$1]=${(P)1}
  __vx_token_flags[$1]=${(Pt)1}
  [[ -z $__vx_token[taking] ]] || builtin return 0
  __vx_token_fingerprint "${(P)1}"
  (( $__vx_token_prints[(Ie)$1~$_vx_print] )) || __vx_token_prints+=("$1~$_vx_print")
}

# Unsets $1, or sets it as the user had it; from then on it is the user's own affair, as if we had never seen it.
__vx_token_give_back() {
  __vx_token_unset $1
  (( $+__vx_token_user[$1] )) || builtin return 0
  builtin typeset -g "$1=$__vx_token_user[$1]"
  [[ $__vx_token_flags[$1] != *export* ]] || builtin export "$1"
  builtin unset "__vx_token_user[$1]" "__vx_token_flags[$1]" "__vx_token_seen[$1]"
}

# A read-only variable stays. An attribute that would change our value (integer, upper case) goes.
__vx_token_unset() {
  [[ ${(Pt)1} != *readonly* ]] && builtin unset "$1"
}

__vx_token_export() {
  __vx_token_unset $1 && builtin export "$1=$2"
}

# Takes the held variables out of the environment, except the names $2 and on, by `__vx_token_unset` or
# `__vx_token_give_back` ($1). What the user has put in their place stays.
__vx_token_withdraw() {
  local _vx_name
  for _vx_name in "${(@k)__vx_token_held}"; do
    (( ! ${@[(Ie)$_vx_name]} )) || builtin continue
    if [[ -v $_vx_name ]] && __vx_token_owns $_vx_name; then
      $1 $_vx_name
    fi
    __vx_token_remember $_vx_name
    builtin unset "__vx_token_held[$_vx_name]"
  done
}

# Was VX_TOKEN_EXPIRES_AT set by others than us? Then so was the key: by `vx-token env`, `exec` or a sourced file.
__vx_token_is_handed() {
  [[ -n $VX_TOKEN_EXPIRES_AT && $VX_TOKEN_EXPIRES_AT != "$__vx_token_held[VX_TOKEN_EXPIRES_AT]" ]]
}

# Is what is in the place of the offered $1 ours as well? The offered value itself is, and a token that was handed over
# together with our URL; one with another URL was asked for another profile or project, so it stays.
__vx_token_is_same() {
  local _vx_key=$__vx_token_offer[OPENAI_API_KEY] _vx_value=$__vx_token_offer[$1]
  [[ $1 != VX_TOKEN_EXPIRES_AT ]] || builtin return 0
  if [[ ${(P)1} == "$_vx_value" ]]; then
    [[ -n $_vx_handed || $_vx_value == "$_vx_key" || -n $__vx_token_seen[$1] ]]
  else
    [[ -n $_vx_handed && -n $_vx_key && $_vx_value == *"$_vx_key"* ]] &&
      [[ $OPENAI_BASE_URL == "$__vx_token_offer[OPENAI_BASE_URL]" ]]
  fi
}

# Is the value of $1 the one that was kept aside, here or in a parent, because a start-up file was read again?
__vx_token_is_kept() {
  local _vx_print
  __vx_token_fingerprint "${(P)1}"
  (( $__vx_token_prints[(Ie)$1~$_vx_print] )) || builtin return 1
  if (( $+__vx_token_user[$1] )); then
    [[ $__vx_token_user[$1] == "${(P)1}" ]]
  else
    (( ! $+__vx_token_seen[$1] ))
  fi
}

# Looks at each offered name before any is set: keeps a value from before our time aside, lists in _vx_skip what the
# user has set since, and fails, with the name in _vx_state, when that is a route or read-only. What was handed over is
# never kept: a token of ours is nothing to give back.
__vx_token_survey() {
  local _vx_name _vx_handed
  ! __vx_token_is_handed || _vx_handed=yes
  for _vx_name in "${(@k)__vx_token_offer}"; do
    if [[ ${(Pt)_vx_name} == *readonly* ]]; then
      _vx_state="readonly $_vx_name"
      builtin return 1
    elif [[ ! -v $_vx_name ]] || __vx_token_owns $_vx_name; then
      builtin continue
    elif __vx_token_is_kept $_vx_name; then
      __vx_token_keep $_vx_name
    elif __vx_token_is_same $_vx_name; then
      builtin continue
    elif __vx_token_is_route $_vx_name &&
      [[ (-n $_vx_handed && -z $__vx_token[taking]) || -n $__vx_token_seen[$_vx_name] ]]; then
      _vx_state="paused $_vx_name"
      builtin return 1
    elif (( $+__vx_token_seen[$_vx_name] )); then
      _vx_skip+=($_vx_name)
    elif [[ -z $_vx_handed ]] || ! __vx_token_is_route $_vx_name; then
      __vx_token_keep $_vx_name
    fi
  done
}

# Puts one variable into the environment and remembers that it is ours.
__vx_token_put() {
  __vx_token_export $1 $2
  __vx_token_seen[$1]=1
  if (( $+__vx_token_held[$1] )) && [[ $__vx_token_held[$1] != "$2" ]]; then
    __vx_token_remember $1
  fi
  __vx_token_held[$1]=$2
}

# Makes the environment say what the offer says, or, when it cannot all be said, nothing of it.
__vx_token_apply() {
  local _vx_name
  local -a _vx_skip
  if __vx_token_survey; then
    __vx_token_withdraw __vx_token_give_back "${(@k)__vx_token_offer}"
    for _vx_name in "${(@k)__vx_token_offer}"; do
      (( $_vx_skip[(Ie)$_vx_name] )) || __vx_token_put $_vx_name $__vx_token_offer[$_vx_name]
    done
  else
    __vx_token_withdraw __vx_token_give_back
  fi
  __vx_token_mark
}

# Sets _vx_print to how a child shell knows value $1 again, in any locale: length and last four characters of its ASCII.
__vx_token_fingerprint() {
  builtin setopt local_options no_multibyte
  local _vx_text=${1//[^!-~]/}
  _vx_print=${#_vx_text}:
  (( ${#_vx_text} < 4 )) || _vx_print+=${_vx_text[-4,-1]}
}

# Tells child shells that there is a hook, and whose the values of which names are: ours (`NAME:` and the fingerprint),
# set by hand in this shell or not there (`NAME:` alone), or kept aside (`NAME~` and the fingerprint).
__vx_token_mark() {
  local _vx_name _vx_print
  local -a _vx_mark
  _vx_mark=(1)
  for _vx_name in "${(@ok)__vx_token_seen}"; do
    _vx_print=
    (( ! $+__vx_token_held[$_vx_name] )) || __vx_token_fingerprint $__vx_token_held[$_vx_name]
    _vx_mark+=("$_vx_name:$_vx_print")
  done
  _vx_mark+=($__vx_token_prints)
  [[ $VX_TOKEN_HOOK == "${(j: :)_vx_mark} " ]] || __vx_token_export VX_TOKEN_HOOK "${(j: :)_vx_mark} "
}

# Reads the parent's mark: a value that fits is ours already; one that the parent kept aside was set again by a start-up
# file and is kept again; any other was put there for this shell by hand.
__vx_token_inherit() {
  local _vx_word _vx_name _vx_print
  for _vx_word in ${(s: :)VX_TOKEN_HOOK}; do
    _vx_name=${_vx_word%%[:~]*}
    __vx_token_may_set $_vx_name || builtin continue
    [[ $_vx_word != *'~'* ]] || __vx_token_prints+=($_vx_word)
    [[ -v $_vx_name ]] || builtin continue
    __vx_token_fingerprint "${(P)_vx_name}"
    if [[ " $VX_TOKEN_HOOK" == *" $_vx_name:$_vx_print "* ]]; then
      __vx_token_put $_vx_name "${(P)_vx_name}"
    elif [[ " $VX_TOKEN_HOOK" != *" $_vx_name~$_vx_print "* ]]; then
      __vx_token_seen[$_vx_name]=1
    fi
  done
}

# --- the one path --------------------------------------------------------------------------------------------------

# In gateway mode ($1 is add) the loopback must not go through a proxy. What we add is a suffix, taken back as such.
__vx_token_no_proxy() {
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

# Brings the variables up to date with the file. The state becomes: ok, login, expired, malformed, gone, unsafe,
# foreign, unreadable, `paused NAME` or `readonly NAME`.
__vx_token_sync() {
  local _vx_file _vx_problem _vx_text _vx_now _vx_state=ok
  __vx_token_find ${VX_TOKEN_PROFILE:-default}
  __vx_token_look_at_file
  __vx_token_time
  __vx_token[now]=$_vx_now __vx_token[until]=0
  __vx_token_load_offer
  if (( ! $#__vx_token_offer )); then
    _vx_state=${_vx_problem:-expired}
    __vx_token_hide
  elif [[ $__vx_token_head[mode] == direct ]] && (( _vx_now >= __vx_token_head[expires] )); then
    _vx_state=expired
    __vx_token_hide
  else
    __vx_token_provide
  fi
  [[ $__vx_token_head[status] != login || $_vx_state != (ok|expired) ]] || _vx_state=login
  __vx_token[state]=$_vx_state
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
  if [[ $__vx_token_head[mode] == gateway && $_vx_state == ok ]]; then
    __vx_token_no_proxy add
  else
    __vx_token_no_proxy remove
  fi
  [[ $_vx_state != ok || -z $_vx_problem ]] || _vx_state=$_vx_problem
}

# VX_TOKEN_STATUS, for prompts: `gemini 42m`, `gemini gateway`, `gemini login`, `gemini expired`, `gemini paused`.
__vx_token_show() {
  local _vx_text=''
  case $__vx_token[state] in
    (ok|malformed) _vx_text=$(( (__vx_token_head[expires] - __vx_token[now]) / 60 ))m ;;
    (login|expired) _vx_text=$__vx_token[state] ;;
    (paused*|readonly*) _vx_text=paused ;;
  esac
  [[ $_vx_text != *m || $__vx_token_head[mode] != gateway ]] || _vx_text=gateway
  if [[ -n $_vx_text && -n $__vx_token_head[profile] ]]; then
    _vx_text="$__vx_token_head[profile] $_vx_text"
    [[ $VX_TOKEN_STATUS == "$_vx_text" ]] || __vx_token_export VX_TOKEN_STATUS $_vx_text
  else
    __vx_token_unset VX_TOKEN_STATUS
  fi
}

# One line for the user when the state is not the one last told; nothing before the first prompt, where powerlevel10k's
# instant prompt would complain.
__vx_token_tell() {
  local _vx_state=$__vx_token[state] _vx_text
  if [[ -z $__vx_token[said] ]]; then
    __vx_token[said]=gone
    builtin return
  fi
  __vx_token[said]=$_vx_state
  case $_vx_state in
    (ok) builtin return ;;
    (login) _vx_text=${__vx_token_head[notice]:-a human must log in; run: vx-token status} ;;
    (expired) _vx_text="the token of $__vx_token_head[profile] has ended and there is no new one; run: vx-token status" ;;
    (gone) _vx_text="$__vx_token[file] is gone, the variables are withdrawn; run: vx-token status" ;;
    (unsafe) _vx_text="$__vx_token[file] is ignored: other users can replace it; run: vx-token status" ;;
    (foreign) _vx_text="$__vx_token[file] belongs to another user and is ignored" ;;
    (unreadable) _vx_text="$__vx_token[file] cannot be read" ;;
    (malformed) _vx_text="$__vx_token[file] is not as vx-token writes it and is ignored" ;;
    (paused*) _vx_text="${_vx_state#* } was set in this shell and wins; to have ours back: vx-token-on" ;;
    (readonly*) _vx_text="${_vx_state#* } is read-only in this shell, so nothing is set" ;;
  esac
  [[ ! -t 2 ]] || builtin print -u2 -r -- "vx-token: $_vx_text"
}

# --- when nothing has changed --------------------------------------------------------------------------------------

# Is the file's text and is each variable on which a look depends what the last look noted, and has nothing expired since?
# Nearly always it is so, hence one function of few commands. A folder of a higher rank than the file's may appear at any
# time.
__vx_token_unchanged() {
  local _vx_file=$__vx_token[file] _vx_text _vx_values _vx_now _vx_part
  [[ $__vx_token[until] != 0 ]] || builtin return 1
  for _vx_part in $__vx_token_entries; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
  [[ ! -d $__vx_token_above[1] && ! -d $__vx_token_above[2] ]] || builtin return 1
  [[ -f $_vx_file && -O $_vx_file && -r $_vx_file ]] && __vx_token_read || builtin return 1
  __vx_token_collect
  [[ $_vx_text == "$__vx_token[text]" && $_vx_values == "$__vx_token[noted]" ]] || builtin return 1
  _vx_now=${(%):-%D{%s}}
  (( __vx_token[from] <= _vx_now && _vx_now < __vx_token[until] ))
}

# Sets _vx_values to the values of all variables on which a look depends: the file's place, what every file sets, and
# the names in __vx_token_extra.
__vx_token_collect() {
  local _vx_name
  _vx_values="$VX_TOKEN_RUNTIME_DIR|$VX_TOKEN_PROFILE|$XDG_RUNTIME_DIR|$TMPDIR|$TEMP|$TMP|$HOME|$OPENAI_API_KEY|"
  _vx_values+="$OPENAI_BASE_URL|$OPENAI_API_BASE|$OPENAI_API_BASE_URL|$OPENAI_AGENTS_DISABLE_TRACING|"
  _vx_values+="$VX_TOKEN_EXPIRES_AT|$VX_TOKEN_STATUS"
  for _vx_name in $__vx_token_extra; do
    _vx_values+="|${(P)_vx_name}"
  done
}

# Notes what __vx_token_unchanged compares, good until the shown minutes change. What could not be read, or has not been
# told yet, is looked at again.
__vx_token_note() {
  local _vx_values _vx_left=$(( __vx_token_head[expires] - __vx_token[now] ))
  [[ -n $__vx_token[text] && $__vx_token[state] == "$__vx_token[said]" ]] || builtin return 0
  __vx_token_above=()
  if [[ -z $VX_TOKEN_RUNTIME_DIR && $__vx_token[file] != "$XDG_RUNTIME_DIR"/vx-token/* ]]; then
    __vx_token_above=("$XDG_RUNTIME_DIR")
    [[ $__vx_token[file] == /run/user/$EUID/* ]] || __vx_token_above+=(/run/user/$EUID)
  fi
  __vx_token_extra=("${(@k)__vx_token_offer}")
  __vx_token_extra=(${__vx_token_extra:#(OPENAI_API_KEY|OPENAI_BASE_URL|OPENAI_API_BASE|OPENAI_API_BASE_URL)})
  __vx_token_extra=(${__vx_token_extra:#(OPENAI_AGENTS_DISABLE_TRACING|VX_TOKEN_EXPIRES_AT)})
  if [[ $__vx_token_head[mode] == gateway ]]; then
    __vx_token_extra+=(HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy NO_PROXY no_proxy)
    _vx_left=60
  elif (( _vx_left >= 60 )); then
    _vx_left=$(( _vx_left % 60 + 1 ))
  fi
  __vx_token_collect
  __vx_token[noted]=$_vx_values
  __vx_token[from]=$__vx_token[now] __vx_token[until]=$(( __vx_token[now] + _vx_left ))
}

# --- where zsh calls us --------------------------------------------------------------------------------------------

# Before a prompt, and, with the command line as arguments, before a command.
__vx_token_look() {
  # A failing prompt function would end a shell under ERR_EXIT; otherwise the next one still sees the command's status.
  local _vx_code=$?
  [[ ! -o errexit && $# -eq 0 ]] || _vx_code=0
  builtin emulate -LR zsh
  if [[ -z $__vx_token[off] ]] && ! __vx_token_unchanged; then
    __vx_token_sync
    (( $# )) || __vx_token_show_and_tell
  fi
  builtin return $_vx_code
}

__vx_token_show_and_tell() {
  __vx_token_show
  [[ $__vx_token[state] == "$__vx_token[said]" ]] || __vx_token_tell
  __vx_token_note
}

__vx_token_register() {
  builtin typeset -ga precmd_functions preexec_functions
  (( $precmd_functions[(Ie)__vx_token_look] )) || precmd_functions+=(__vx_token_look)
  (( $preexec_functions[(Ie)__vx_token_look] )) || preexec_functions+=(__vx_token_look)
}

# --- what the user calls -------------------------------------------------------------------------------------------

# A new shell has told nothing yet ($1 is empty): see __vx_token_tell.
__vx_token_reset() {
  __vx_token[file]='' __vx_token[state]=gone __vx_token[said]=${1-gone} __vx_token[off]=''
  __vx_token[until]=0
  __vx_token_seen=()
  __vx_token_forget
}

# Takes our variables, and the hook itself, out of this shell and gives back what was there before.
vx-token-off() {
  builtin emulate -LR zsh
  local _vx_name
  __vx_token_withdraw __vx_token_give_back
  for _vx_name in "${(@k)__vx_token_user}"; do
    [[ -v $_vx_name ]] || __vx_token_give_back $_vx_name
  done
  __vx_token_user=() __vx_token_flags=() __vx_token_prints=()
  __vx_token_hide
  precmd_functions=("${(@)precmd_functions:#__vx_token_look}")
  preexec_functions=("${(@)preexec_functions:#__vx_token_look}")
  if (( $+__vx_token[chosen] )); then
    __vx_token_choose "$__vx_token[chosen]"
    builtin unset '__vx_token[chosen]'
  fi
  __vx_token_unset VX_TOKEN_STATUS
  __vx_token_unset VX_TOKEN_HOOK
  __vx_token[off]=yes
}

# Brings them back, also over a value that was set by hand in the meantime, which is then the one kept aside.
vx-token-on() {
  builtin emulate -LR zsh
  __vx_token_reset
  __vx_token[taking]=yes
  __vx_token_sync
  __vx_token[taking]=
  [[ ! -o interactive ]] || __vx_token_register
}

# Names profile $1 for this shell and what it starts, or none.
__vx_token_choose() {
  if [[ -n $1 ]]; then
    __vx_token_export VX_TOKEN_PROFILE $1
  else
    __vx_token_unset VX_TOKEN_PROFILE
  fi
}

# Switches this shell, and what it starts, to another profile; without a name back to the default one.
vx-token-use() {
  builtin emulate -LR zsh
  local _vx_file
  __vx_token_find ${1:-default}
  if [[ $1 == *[^A-Za-z0-9._-]* || $1 == [.-]* || ! -d ${_vx_file%/*} ]]; then
    builtin print -u2 -r -- "vx-token: there is no profile ${(q-)${1:-default}} here"
    builtin print -u2 -r -- 'hint: vx-token status lists them; vx-token refresh --profile NAME fetches a first token'
    builtin return 1
  fi
  (( $+__vx_token[chosen] )) || __vx_token[chosen]=$VX_TOKEN_PROFILE
  __vx_token_choose "$1"
  [[ -n $__vx_token[off] ]] || __vx_token_sync
}

# --- loading -------------------------------------------------------------------------------------------------------

__vx_token_start() {
  builtin emulate -LR zsh
  builtin typeset -gA __vx_token __vx_token_head __vx_token_offer __vx_token_held __vx_token_user __vx_token_flags
  builtin typeset -gA __vx_token_seen __vx_token_proxied
  builtin typeset -ga __vx_token_past __vx_token_prints __vx_token_above __vx_token_extra __vx_token_entries
  if [[ -z $__vx_token[loaded] ]]; then
    __vx_token_reset ''
    __vx_token_inherit
    __vx_token[loaded]=yes
  fi
  [[ -z $__vx_token[off] ]] || builtin return 0
  __vx_token_sync
  [[ ! -o interactive ]] || __vx_token_register
}
__vx_token_start

[[ -z "${__vx_token_options[@]}" ]] || 'builtin' 'setopt' "${__vx_token_options[@]}"
'builtin' 'unset' '__vx_token_options'
