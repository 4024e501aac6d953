# shellcheck shell=bash
# vx-token for bash: keeps OPENAI_API_KEY and related variables current in an interactive shell.
#
# The hook reads the file <runtime>/<profile>/env.sh at each prompt, and again between Enter and the command if the
# prompt has waited for some seconds. It parses the file and never executes it. It starts no program, except `ls` once
# for each folder. Its state is in arrays, because arrays are never exported, not even under `set -a`. See
# `vx-token help shell`.
#
# The sections are in the order in which a shell runs them. Sourcing the file runs the last one, Loading.

# bash expands aliases when it parses a function, so they are off until the end of this file.
if \builtin shopt -q expand_aliases; then
  __vx_token_aliases=(on)
  \builtin shopt -u expand_aliases
else
  __vx_token_aliases=()
fi

# --- At each prompt and before each command -----------------------------------------------------------------------

# The entry in PROMPT_COMMAND, in the order of its parts:
# - It is the first command there, because hooks that set a DEBUG trap at the end of the prompt (VS Code, starship,
#   bash-preexec) would report it as the user's command.
# - The outer loop exists for its word list, which bash expands before a DEBUG trap fires. After an empty line or a
#   pipeline of subshells VS Code still waits for a command and would report the entry, unless its flag shows that a
#   command is running.
# - A child shell may inherit an exported PROMPT_COMMAND without the functions. __vx_token_pending is unset there, so
#   the loops have no iteration.
# - The inner loop returns the status of its body, which is the status of the user's command, as prompt returns it.
# - Its third expression assigns PIPESTATUS, and no simple command runs after that, so the next command sees the values.
# - To the left of `&&` a status other than 0 neither ends a shell under `set -e` nor runs an ERR trap.
# - No expression is empty, because bash before 5.2.16 crashes on an empty one.
# shellcheck disable=SC2016 # bash expands it at each prompt
__vx_token_entry=('for __vx_token_turn in ${__vx_token_pending+"$((${__vsc_in_command_execution+__vx_token_vscode=__vsc_in_command_execution,__vsc_in_command_execution=}1))"}; do for ((__vx_token_pending=1; __vx_token_pending||${__vsc_in_command_execution+(__vsc_in_command_execution=__vx_token_vscode)*}0; __vx_token_pending=0, ${__vx_token_pipestatus-0})); do __vx_token_prompt "${PIPESTATUS[@]}" && [[ 1 ]]; done; done')

# Installs the hook in this shell, once.
__vx_token_register() {
  __vx_token_pending=(0) __vx_token_pipestatus=(0) __vx_token_turn=() __vx_token_vscode=() __vx_token_paused=()
  __vx_token_arm
  [[ ${PROMPT_COMMAND[*]-} != *"${__vx_token_entry[0]}"* ]] || builtin return 0
  # If PROMPT_COMMAND is an array, this assigns its first element. printf does not end the shell if it is read-only.
  { builtin printf -v PROMPT_COMMAND '%s%s' "${__vx_token_entry[0]}" "${PROMPT_COMMAND:+$'\n'$PROMPT_COMMAND}"; } 2>&-
}

# Removes the hook from this shell.
__vx_token_unregister() {
  builtin local _vx_i _vx_command _vx_rest
  builtin unset -v __vx_token_pending
  __vx_token_disarm
  { [[ ! ${PS0-} ]] || builtin printf -v PS0 %s "${PS0//"${__vx_token_ps0[0]}"/}"; } 2>&-
  for _vx_i in ${PROMPT_COMMAND[@]+"${!PROMPT_COMMAND[@]}"}; do
    _vx_command=${PROMPT_COMMAND[_vx_i]}
    # bash 3.2 does not match a quoted pattern in `//`, so the entry is removed by its prefix and suffix.
    while [[ $_vx_command == *"${__vx_token_entry[0]}"* ]]; do
      _vx_rest=${_vx_command#*"${__vx_token_entry[0]}"}
      _vx_command=${_vx_command%%"${__vx_token_entry[0]}"*}${_vx_rest#$'\n'}
    done
    if ((_vx_i)); then
      PROMPT_COMMAND[_vx_i]=$_vx_command
    else
      { builtin printf -v PROMPT_COMMAND %s "$_vx_command"; } 2>&-
    fi
  done
}

# Runs before each prompt, with the elements of PIPESTATUS as arguments. Returns the status of the user's command,
# so that the commands after it in PROMPT_COMMAND see it.
__vx_token_prompt() {
  builtin local "_vx_code=$?"
  __vx_token_pipestatus=("PIPESTATUS[0]=$1")
  (($# == 1)) || __vx_token_save_pipestatus "$@"
  [[ ${__vx_token_off-} ]] || __vx_token_is_unchanged || __vx_token_quietly __vx_token_update_prompt
  builtin return "$_vx_code"
}

# Runs between Enter and the command, as the URG trap. bash restores $? and PIPESTATUS after a trap. It restores $_
# to the last argument of the trap's command, which is why the trap passes $_.
__vx_token_preexec() {
  [[ ${__vx_token_off-} ]] || __vx_token_is_unchanged || __vx_token_quietly __vx_token_update_variables
  __vx_token_resume
}

# Updates the variables and the status for prompts, and prints a notice when the state has changed.
__vx_token_update_prompt() {
  __vx_token_update_variables
  __vx_token_set_status
  [[ ${__vx_token_state[0]} == "${__vx_token_notified[0]}" ]] || __vx_token_notify
  __vx_token_move_ps0_last
  __vx_token_take_snapshot
}

# Runs "$@" and returns its status. Switches off the shell options that would print a value (v, x), export a second
# copy (a), read a value as an assignment (k), or end the shell at a read-only variable (e).
__vx_token_quietly() {
  builtin local "_vx_flags=${-//[!aekvx]/}" "_vx_code=0"
  [[ ! $_vx_flags ]] || builtin set +aekvx
  # An unusual IFS changes how `[*]` joins array elements, and up to bash 4.3 how an array is copied.
  [[ ${IFS-} == $' \t\n' ]] || { builtin local IFS=$' \t\n'; } 2>&-
  "$@" || _vx_code=$?
  [[ ! $_vx_flags ]] || builtin set "-$_vx_flags"
  builtin return "$_vx_code"
}

# Stores the assignments that restore a PIPESTATUS of several elements; the PROMPT_COMMAND entry runs them.
__vx_token_save_pipestatus() {
  builtin local "_vx_assign=0" "_vx_i=0" _vx_status
  for _vx_status; do
    _vx_assign+=",PIPESTATUS[$((_vx_i++))]=$_vx_status"
  done
  __vx_token_pipestatus=("$_vx_assign")
}

# --- PS0 ----------------------------------------------------------------------------------------------------------

# bash (4.4 and later) expands PS0 between Enter and the command, when a trap can still run before the command. The
# subscript compares the clock with the second __vx_token_due, which costs no fork. If that second has passed, a subshell
# reads the file. If the variables must change, it sends this shell the signal URG, which is ignored by default and which
# neither terminals nor bash use. The outer subscript is an expression, so that the output of the subshell can assign
# variables of this shell.
# shellcheck disable=SC2016 # bash expands it at each command
__vx_token_ps0=('${__vx_token_gate[\D{%s}>=${__vx_token_due-0}]+${__vx_token_gate[0$(__vx_token_wake)]-}}')
__vx_token_gate=([1]=due)

# Runs in the subshell of PS0. Raises URG when the variables must change, unless the URG trap is now the user's own,
# because that trap must not run without its signal.
__vx_token_wake() {
  __vx_token_ps0_ends_here && __vx_token_quietly __vx_token_must_update || builtin return 0
  [[ $(builtin trap -p URG) == *__vx_token_preexec* ]] || builtin return 0
  __vx_token_print_pause
  builtin kill -URG $$
}

# Checks whether the variables must change. Since the prompt only the clock and the file can have changed, so this
# is shorter than an update.
__vx_token_must_update() {
  builtin local _vx_file _vx_problem _vx_now _vx_lines
  [[ ! ${__vx_token_off-} ]] || builtin return 1
  __vx_token_find_file "${VX_TOKEN_PROFILE:-default}"
  __vx_token_load_file
  __vx_token_read_clock
  [[ $_vx_problem || ${_vx_lines[*]-} == "${__vx_token_content[0]-}" ]] || builtin return 0
  ((${#__vx_token_held_names[@]})) || builtin return 1
  [[ $_vx_problem ]] || { [[ ${__vx_token_mode[0]} == direct ]] && ((_vx_now >= __vx_token_expires)); }
}

# Checks that no substitution follows ours in PS0. Up to bash 5.2 a pending trap also runs while bash parses a later
# substitution, and that can crash the shell. Other programs may have appended one since the prompt.
__vx_token_ps0_ends_here() { [[ ${PS0##*"${__vx_token_ps0[0]}"} != *['$`']* ]]; }

# Prints the assignments that stop bash-preexec (used by atuin, iTerm2 and WezTerm) and VS Code from treating the
# command of our trap as the user's command. Both run a DEBUG trap, which also fires for the command of another
# trap.
__vx_token_print_pause() {
  [[ ${__bp_inside_preexec-} != 0 ]] || builtin printf ',__bp_inside_preexec=__vx_token_paused[0]=1'
  [[ ${__vsc_in_command_execution-} != 0 ]] || builtin printf ',__vsc_in_command_execution=__vx_token_paused[1]=1'
  builtin printf ',0'
}

# Resets what the assignments of print_pause have set.
__vx_token_resume() {
  [[ ! ${__vx_token_paused[0]-} ]] || __bp_inside_preexec=0
  [[ ! ${__vx_token_paused[1]-} ]] || __vsc_in_command_execution=0
  __vx_token_paused=()
}

# Sets the URG trap and PS0. A URG trap of the user's stays; the hook then runs at prompts only.
__vx_token_arm() {
  builtin local _vx_trap
  _vx_trap=$(builtin trap -p URG)
  [[ ! $_vx_trap || $_vx_trap == *__vx_token_preexec* ]] || builtin return 0
  builtin trap '__vx_token_preexec "$_"' URG
  __vx_token_trap=(set)
  __vx_token_move_ps0_last
}

# Removes the URG trap.
__vx_token_disarm() {
  [[ ${__vx_token_trap-} && $(builtin trap -p URG) == *__vx_token_preexec* ]] || builtin return 0
  builtin trap - URG
  __vx_token_trap=()
}

# Moves our part to the end of PS0, where ps0_ends_here needs it. It runs at each prompt because other programs
# rewrite PS0. If promptvars is off, bash would print the part as plain characters, so it is removed.
__vx_token_move_ps0_last() {
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

# --- When nothing has changed -------------------------------------------------------------------------------------

# Checks that the file's content and each variable that an update reads are those of the last snapshot, and that no
# time limit has passed. This is one function of few commands because it is all that nearly every prompt runs.
# Folders that take precedence over the file's folder may appear at any time, so they are checked too. Under `set
# -x` it fails, because only the update switches tracing off.
__vx_token_is_unchanged() {
  builtin local "_vx_file=${__vx_token_file[0]}" _vx_lines _vx_values _vx_now _vx_part
  [[ ${__vx_token_valid_until[0]-0} != 0 && $- != *x* ]] || builtin return 1
  for _vx_part in ${__vx_token_sticky_entries[@]+"${__vx_token_sticky_entries[@]}"}; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
  [[ ! -d ${__vx_token_higher_folders[0]-} && ! -d ${__vx_token_higher_folders[1]-} ]] || builtin return 1
  [[ -f $_vx_file && -O $_vx_file && -r $_vx_file ]] &&
    { builtin mapfile -t _vx_lines <"$_vx_file"; } 2>&- || builtin return 1
  __vx_token_collect_values
  [[ ${_vx_lines[*]-} == "${__vx_token_content[0]}" && $_vx_values == "${__vx_token_snapshot[0]}" ]] || builtin return 1
  builtin printf -v _vx_now '%(%s)T' -1
  ((__vx_token_valid_from <= _vx_now && _vx_now < __vx_token_valid_until)) || builtin return 1
  __vx_token_set_due
}

# Sets _vx_values to the values of all variables that an update reads: the location of the file, the names that
# every file sets, and the names in __vx_token_watched.
__vx_token_collect_values() {
  builtin local _vx_name
  _vx_values="${VX_TOKEN_RUNTIME_DIR-}|${VX_TOKEN_PROFILE-}|${XDG_RUNTIME_DIR-}|${TMPDIR-}|${TEMP-}|${TMP-}|${HOME-}|"
  _vx_values+="${OPENAI_API_KEY-}|${OPENAI_BASE_URL-}|${OPENAI_API_BASE-}|${OPENAI_API_BASE_URL-}|"
  _vx_values+="${OPENAI_AGENTS_DISABLE_TRACING-}|${VX_TOKEN_EXPIRES_AT-}|${VX_TOKEN_STATUS-}|${PS0-}|${BASHOPTS-}"
  for _vx_name in ${__vx_token_watched[@]+"${__vx_token_watched[@]}"}; do
    _vx_values+="|${!_vx_name-}"
  done
}

# Stores what is_unchanged compares. It is valid until the minutes in VX_TOKEN_STATUS change. There is no snapshot
# of an unreadable file or of a state whose notice is still due, so the next prompt runs a full update.
__vx_token_take_snapshot() {
  builtin local _vx_values _vx_name "_vx_left=$((__vx_token_expires - __vx_token_now))"
  [[ ${__vx_token_content[0]-} && ${__vx_token_state[0]} == "${__vx_token_notified[0]}" ]] || builtin return 0
  __vx_token_higher_folders=()
  if [[ ! ${VX_TOKEN_RUNTIME_DIR-} && ${__vx_token_file[0]} != "${XDG_RUNTIME_DIR-}"/vx-token/* ]]; then
    __vx_token_higher_folders=("${XDG_RUNTIME_DIR-}")
    [[ ${__vx_token_file[0]} == "/run/user/$EUID"/* ]] || __vx_token_higher_folders+=("/run/user/$EUID")
  fi
  __vx_token_watched=()
  for _vx_name in ${__vx_token_names[@]+"${__vx_token_names[@]}"}; do
    case $_vx_name in
      OPENAI_API_KEY | OPENAI_BASE_URL | OPENAI_API_BASE | OPENAI_API_BASE_URL) ;;
      OPENAI_AGENTS_DISABLE_TRACING | VX_TOKEN_EXPIRES_AT) ;;
      *) __vx_token_watched+=("$_vx_name") ;;
    esac
  done
  if [[ ${__vx_token_mode[0]} == gateway ]]; then
    __vx_token_watched+=(HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy NO_PROXY no_proxy)
    _vx_left=60
  elif ((_vx_left >= 60)); then
    _vx_left=$((_vx_left % 60 + 1))
  fi
  __vx_token_collect_values
  __vx_token_snapshot=("$_vx_values")
  __vx_token_valid_from=("${__vx_token_now[0]}") __vx_token_valid_until=("$((__vx_token_now + _vx_left))")
}

# --- Updating the variables ---------------------------------------------------------------------------------------

# Updates the variables from the file. The state becomes ok, login, expired, malformed, gone, unsafe, foreign,
# unreadable, `paused NAME` or `readonly NAME`.
__vx_token_update_variables() {
  builtin local _vx_file _vx_problem _vx_now _vx_lines _vx_state=ok
  __vx_token_find_file "${VX_TOKEN_PROFILE:-default}"
  __vx_token_load_file
  __vx_token_read_clock
  __vx_token_now=("$_vx_now")
  __vx_token_valid_until=(0)
  __vx_token_due=("$_vx_now")
  __vx_token_update_offer
  if ((!${#__vx_token_names[@]})); then
    _vx_state=${_vx_problem:-expired}
    __vx_token_withdraw_token
  elif [[ ${__vx_token_mode[0]} == direct ]] && ((_vx_now >= __vx_token_expires)); then
    _vx_state=expired
    __vx_token_withdraw_token
  else
    __vx_token_provide_token
  fi
  [[ ${__vx_token_status[0]} != login || ($_vx_state != ok && $_vx_state != expired) ]] || _vx_state=login
  __vx_token_state=("$_vx_state")
}

# Sets the variables of a valid token.
__vx_token_provide_token() {
  __vx_token_apply_offer
  __vx_token_set_due
  if [[ ${__vx_token_mode[0]} == gateway && $_vx_state == ok ]]; then
    __vx_token_update_no_proxy add
  else
    __vx_token_update_no_proxy remove
  fi
  [[ $_vx_state != ok || ! $_vx_problem ]] || _vx_state=$_vx_problem
}

# Unsets our variables when there is no valid token. The user's own values stay set aside, because an expired token
# must not send the next command to another provider and its bill.
__vx_token_withdraw_token() {
  __vx_token_withdraw __vx_token_unset
  __vx_token_update_no_proxy remove
  __vx_token_export_marker
}

# Sets the second from which PS0 checks the file again: two seconds from now, or earlier when the token expires
# earlier.
__vx_token_set_due() {
  __vx_token_due=("$((_vx_now + 2))")
  ((__vx_token_due < __vx_token_expires)) || [[ ${__vx_token_mode[0]} == gateway ]] ||
    __vx_token_due=("${__vx_token_expires[0]}")
}

# --- Reading the file ---------------------------------------------------------------------------------------------

# Sets _vx_file to the file of profile $1. The order is that of the program: VX_TOKEN_RUNTIME_DIR, XDG_RUNTIME_DIR,
# the system's folder for the user, the folder for temporary files.
__vx_token_find_file() {
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

# Reads the file _vx_file, or sets _vx_problem to gone (missing, or not a regular file), unsafe, foreign or
# unreadable. The folders are checked first, because after that no other user can exchange the file between its
# checks and the read.
__vx_token_load_file() {
  if [[ ! -f $_vx_file ]]; then
    _vx_problem=gone
  elif ! __vx_token_folder_is_safe "${_vx_file%/*}"; then
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
  builtin local _vx_part
  [[ $1 == "${__vx_token_safe_folder[0]}" ]] || __vx_token_check_folder "$1" || builtin return 1
  for _vx_part in ${__vx_token_sticky_entries[@]+"${__vx_token_sticky_entries[@]}"}; do
    [[ -O $_vx_part && ! -L $_vx_part ]] || builtin return 1
  done
}

# Checks each folder and link on the path to $1, both as written and with links resolved. All must belong to the
# user or root. Only sticky folders may be writable by others, and our entry in a sticky folder must not be a link.
# bash cannot read permissions, so `ls` does, once for each folder. A restricted bash has neither `cd` nor `command
# -p`.
__vx_token_check_folder() {
  builtin local _vx_path _vx_parent _vx_real _vx_mode _vx_uid _vx_rest _vx_count=0
  builtin local -a _vx_parts
  __vx_token_safe_folder=('') __vx_token_sticky_entries=()
  [[ ! -k $1 ]] || builtin return 1
  _vx_parts=(/) _vx_real=$({ builtin cd -P -- "$1" && builtin pwd -P; } 2>&-)
  [[ $_vx_real != "$1" ]] || _vx_real=/
  for _vx_path in "$1" "$_vx_real"; do
    while [[ $_vx_path == /*[!/]* ]]; do
      [[ ! -L $_vx_path || $_vx_real ]] || builtin return 1
      _vx_parts[${#_vx_parts[@]}]=$_vx_path
      _vx_parent=${_vx_path%/*}
      if [[ -k ${_vx_parent:-/} && -O $_vx_path ]]; then
        [[ ! -L $_vx_path ]] || builtin return 1
        __vx_token_sticky_entries[${#__vx_token_sticky_entries[@]}]=$_vx_path
      fi
      _vx_path=$_vx_parent
    done
  done
  while builtin read -r _vx_mode _vx_rest _vx_uid _vx_rest; do
    [[ $_vx_uid == 0 || $_vx_uid == "$EUID" ]] || builtin return 1
    [[ $_vx_mode == l* || $_vx_mode == d????-??-* || $_vx_mode == d????????[tT]* ]] || builtin return 1
    ((_vx_count += 1))
  done <<<"$({ builtin command -p ls -dlnq -- "${_vx_parts[@]}" || builtin command ls -dlnq -- "${_vx_parts[@]}"; } 2>&-)"
  ((_vx_count == ${#_vx_parts[@]})) || builtin return 1
  __vx_token_safe_folder=("$1")
}

# Sets _vx_lines to the lines of _vx_file with a single open. stderr is closed because the file may have vanished,
# and because a restricted shell cannot redirect to /dev/null. `read -d ''` would need a system call for each byte.
__vx_token_read_file() { { builtin mapfile -t _vx_lines <"$_vx_file"; } 2>&-; }

# Sets _vx_now to epoch seconds.
__vx_token_read_clock() { builtin printf -v _vx_now '%(%s)T' -1; }

# --- Parsing the file ---------------------------------------------------------------------------------------------

# Parses the file if it has changed. The offer is the content of the last valid file. A malformed file does not come
# from the daemon, so the offer stays in use until its token expires.
__vx_token_update_offer() {
  if [[ $_vx_file != "${__vx_token_file[0]}" ]]; then
    __vx_token_file=("$_vx_file")
    __vx_token_clear_offer
  fi
  if [[ $_vx_problem ]]; then
    __vx_token_clear_offer
  elif [[ ! ${__vx_token_content[0]-} || ${_vx_lines[*]-} != "${__vx_token_content[0]}" ]]; then
    if __vx_token_parse_file; then
      __vx_token_content=("${_vx_lines[*]}")
    else
      __vx_token_content=() _vx_problem=malformed
    fi
  fi
}

# Replaces the offer by the parsed file, or fails and changes nothing. The end marker in the last line detects a
# truncated file.
__vx_token_parse_file() {
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
  __vx_token_profile=("$_vx_profile") __vx_token_status=("$_vx_status") __vx_token_expires=("$((10#$_vx_expires))")
  __vx_token_mode=("$_vx_mode") __vx_token_notice=("$_vx_notice")
  __vx_token_names=(${_vx_names[@]+"${_vx_names[@]}"})
  __vx_token_values=(${_vx_values[@]+"${_vx_values[@]}"})
}

# Parses a line `export NAME='value'` in $1; fails on anything else and on a repeated name.
__vx_token_parse_export() {
  builtin local "_vx_rest=${1#export }" _vx_name _vx_value _vx_i
  _vx_name=${_vx_rest%%=*}
  _vx_value=${_vx_rest#*=}
  __vx_token_is_allowed_name "$_vx_name" || builtin return 1
  [[ $_vx_value == \'?*\' ]] || builtin return 1
  _vx_value=${_vx_value:1:${#_vx_value}-2}
  [[ $_vx_value && $_vx_value != *\'* ]] || builtin return 1
  for ((_vx_i = 0; _vx_i < ${#_vx_names[@]}; _vx_i++)); do
    [[ ${_vx_names[_vx_i]} != "$_vx_name" ]] || builtin return 1
  done
  _vx_names[${#_vx_names[@]}]=$_vx_name
  _vx_values[${#_vx_values[@]}]=$_vx_value
}

# Checks that a file may set the variable $1. The rule allows forms of names, as `exportable` in presets.py does,
# because a list of all variables that shells, loaders and interpreters act on can never be complete.
__vx_token_is_allowed_name() {
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

# Forgets the last file.
__vx_token_clear_offer() {
  __vx_token_content=() __vx_token_names=() __vx_token_values=()
  __vx_token_profile=('') __vx_token_status=('') __vx_token_expires=(0) __vx_token_mode=('') __vx_token_notice=('')
}

# --- Deciding whose values the variables have ---------------------------------------------------------------------

# Sets the variables of the offer. Sets none of them if the user has set a route (see is_route) or if one is
# read-only.
__vx_token_apply_offer() {
  builtin local _vx_i _vx_name _vx_skip='' _vx_offered=' ' _vx_key='' _vx_url=''
  for ((_vx_i = 0; _vx_i < ${#__vx_token_names[@]}; _vx_i++)); do
    _vx_offered+="${__vx_token_names[_vx_i]} "
    case ${__vx_token_names[_vx_i]} in
      OPENAI_API_KEY) _vx_key=${__vx_token_values[_vx_i]} ;;
      OPENAI_BASE_URL) _vx_url=${__vx_token_values[_vx_i]} ;;
    esac
  done
  if __vx_token_classify; then
    __vx_token_withdraw __vx_token_restore "$_vx_offered"
    for ((_vx_i = 0; _vx_i < ${#__vx_token_names[@]}; _vx_i++)); do
      _vx_name=${__vx_token_names[_vx_i]}
      [[ $_vx_skip != *" $_vx_name "* ]] || builtin continue
      __vx_token_set_variable "$_vx_name" "${__vx_token_values[_vx_i]}" || { _vx_state="readonly $_vx_name" && builtin break; }
    done
  fi
  case $_vx_state in
    paused* | readonly*) __vx_token_withdraw __vx_token_restore ;;
  esac
  __vx_token_export_marker
}

# Inspects each offered variable before any is set. Sets aside a value from before the hook. Lists variables that
# the user has set since in _vx_skip; when such a variable is a route, fails with its name in _vx_state. Values that
# were handed over are never set aside, because vx-token-off must not restore an old token.
__vx_token_classify() {
  builtin local _vx_i _vx_name _vx_handed_over=''
  ! __vx_token_is_handed_over || _vx_handed_over=yes
  for ((_vx_i = 0; _vx_i < ${#__vx_token_names[@]}; _vx_i++)); do
    _vx_name=${__vx_token_names[_vx_i]}
    if [[ ! ${!_vx_name+x} ]] || __vx_token_is_ours "$_vx_name" "${!_vx_name}"; then
      builtin continue
    elif __vx_token_is_aside "$_vx_name"; then
      __vx_token_set_aside "$_vx_name"
    elif __vx_token_is_replaceable "$_vx_i"; then
      builtin continue
    elif __vx_token_is_route "$_vx_i" &&
      [[ ($_vx_handed_over && ! ${__vx_token_overriding-}) || ${__vx_token_seen[0]} == *" $_vx_name "* ]]; then
      _vx_state="paused $_vx_name"
      builtin return 1
    elif [[ ${__vx_token_seen[0]} == *" $_vx_name "* ]]; then
      _vx_skip+=" $_vx_name "
    elif [[ ! $_vx_handed_over ]] || ! __vx_token_is_route "$_vx_i"; then
      __vx_token_set_aside "$_vx_name"
    fi
  done
}

# Checks that the value $2 of $1 is ours, current or earlier. direnv and tmux restore old environments.
__vx_token_is_ours() {
  builtin local _vx_index
  if __vx_token_find_held "$1" && [[ ${__vx_token_held_values[_vx_index]} == "$2" ]]; then
    builtin return 0
  fi
  for ((_vx_index = ${#__vx_token_past[@]} - 1; _vx_index >= 0; _vx_index--)); do
    [[ ${__vx_token_past[_vx_index]} != "$1=$2" ]] || builtin return 0
  done
  builtin return 1
}

# Checks whether $1 has the value that was set aside, here or in a parent shell. It gets that value again when a
# start-up file is read again.
__vx_token_is_aside() {
  builtin local _vx_index _vx_fingerprint
  __vx_token_fingerprint "${!1}"
  [[ " ${__vx_token_fingerprints[0]}" == *" $1~$_vx_fingerprint "* ]] || builtin return 1
  if __vx_token_find_aside "$1"; then
    [[ ${__vx_token_aside_values[_vx_index]} == "${!1}" ]]
  else
    [[ ${__vx_token_seen[0]} != *" $1 "* ]]
  fi
}

# Checks whether VX_TOKEN_EXPIRES_AT comes from elsewhere. If so, the key does too: from `vx-token env`, `vx-token
# exec` or a sourced file.
__vx_token_is_handed_over() {
  builtin local _vx_index
  [[ ${VX_TOKEN_EXPIRES_AT-} ]] || builtin return 1
  ! __vx_token_find_held VX_TOKEN_EXPIRES_AT || [[ ${__vx_token_held_values[_vx_index]} != "$VX_TOKEN_EXPIRES_AT" ]]
}

# Checks whether the value of the offered variable number $1 may be replaced although this shell did not set it.
# That is so if it equals the offered value, or if it was handed over together with our URL. A token with another
# URL belongs to another profile or project, so it stays.
__vx_token_is_replaceable() {
  builtin local "_vx_name=${__vx_token_names[$1]}" "_vx_value=${__vx_token_values[$1]}"
  [[ $_vx_name != VX_TOKEN_EXPIRES_AT ]] || builtin return 0
  if [[ ${!_vx_name} == "$_vx_value" ]]; then
    [[ $_vx_handed_over || $_vx_value == "$_vx_key" || ${__vx_token_seen[0]} == *" $_vx_name "* ]]
  else
    [[ $_vx_handed_over && $_vx_key && $_vx_value == *"$_vx_key"* && ${OPENAI_BASE_URL-} == "$_vx_url" ]]
  fi
}

# Checks whether the offered variable number $1 is a URL or the key. Such variables are all set or all left alone,
# because our key must never be sent to another URL.
__vx_token_is_route() {
  builtin local "_vx_value=${__vx_token_values[$1]}"
  [[ $_vx_value == http://* || $_vx_value == https://* || $_vx_value == "$_vx_key" ]]
}

# Sets _vx_index to the position of $1 among our variables in the environment; fails if it is not there.
__vx_token_find_held() {
  for ((_vx_index = 0; _vx_index < ${#__vx_token_held_names[@]}; _vx_index++)); do
    [[ ${__vx_token_held_names[_vx_index]} != "$1" ]] || builtin return 0
  done
  builtin return 1
}

# Sets _vx_index to the position of $1 among the values that are set aside; fails if it is not there.
__vx_token_find_aside() {
  for ((_vx_index = 0; _vx_index < ${#__vx_token_aside_names[@]}; _vx_index++)); do
    [[ ${__vx_token_aside_names[_vx_index]} != "$1" ]] || builtin return 0
  done
  builtin return 1
}

# --- Setting, unsetting and restoring variables -------------------------------------------------------------------

# Sets $1 to the value $2 and records it as ours; fails if it is read-only.
__vx_token_set_variable() {
  builtin local _vx_index
  __vx_token_export "$1" "$2" || builtin return 1
  [[ ${__vx_token_seen[0]} == *" $1 "* ]] || __vx_token_seen=("${__vx_token_seen[0]}$1 ")
  if ! __vx_token_find_held "$1"; then
    __vx_token_held_names[_vx_index]=$1
  elif [[ ${__vx_token_held_values[_vx_index]} != "$2" ]]; then
    __vx_token_record_past "$1" "${__vx_token_held_values[_vx_index]}"
  fi
  __vx_token_held_values[_vx_index]=$2
}

# Stores the user's value of $1, and whether it was exported, for vx-token-off.
__vx_token_set_aside() {
  builtin local _vx_index _vx_attributes _vx_fingerprint
  __vx_token_read_attributes "$1"
  __vx_token_find_aside "$1" || _vx_index=${#__vx_token_aside_names[@]}
  __vx_token_aside_names[_vx_index]=$1
  __vx_token_aside_values[_vx_index]=${!1}
  __vx_token_aside_attributes[_vx_index]=$_vx_attributes
  __vx_token_fingerprint "${!1}"
  [[ ${__vx_token_overriding-} || " ${__vx_token_fingerprints[0]}" == *" $1~$_vx_fingerprint "* ]] ||
    __vx_token_fingerprints=("${__vx_token_fingerprints[0]}$1~$_vx_fingerprint ")
}

# Sets _vx_attributes to the attributes of $1; x means exported.
__vx_token_read_attributes() { _vx_attributes=${!1@a}; }

# Restores the user's value of $1 or unsets it. Afterwards the variable is treated as if the hook had never seen it.
__vx_token_restore() {
  builtin local _vx_i
  __vx_token_unset "$1"
  for ((_vx_i = 0; _vx_i < ${#__vx_token_aside_names[@]}; _vx_i++)); do
    [[ ${__vx_token_aside_names[_vx_i]} == "$1" ]] || builtin continue
    { builtin printf -v "$1" %s "${__vx_token_aside_values[_vx_i]}"; } 2>&-
    [[ ${__vx_token_aside_attributes[_vx_i]} != *x* ]] || builtin export "${1?}"
    __vx_token_aside_names[_vx_i]='' __vx_token_aside_values[_vx_i]=''
    __vx_token_seen=("${__vx_token_seen[0]// $1 / }")
  done
}

# Removes our variables from the environment with the function $1 (unset or restore), except the names in $2. Values
# that the user has set in their place stay.
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
    [[ ! ${!_vx_name+x} ]] || ! __vx_token_is_ours "$_vx_name" "${!_vx_name}" || "$1" "$_vx_name"
    __vx_token_record_past "$_vx_name" "${__vx_token_held_values[_vx_i]}"
  done
  __vx_token_held_names=(${_vx_names[@]+"${_vx_names[@]}"})
  __vx_token_held_values=(${_vx_values[@]+"${_vx_values[@]}"})
}

# Stores the previous value of $1 for is_ours; the last 32 are kept.
__vx_token_record_past() {
  ((${#__vx_token_past[@]} < 32)) || __vx_token_past=("${__vx_token_past[@]:1}")
  __vx_token_past[${#__vx_token_past[@]}]=$1=$2
}

# Exports $1 with the value $2. It is unset first, because an integer or upper-case attribute would change the
# value.
__vx_token_export() { __vx_token_unset "$1" && builtin export "$1=$2"; }

# Unsets $1; fails if it is read-only.
__vx_token_unset() { { builtin unset -v "$1"; } 2>&-; }

# Adds 127.0.0.1 and localhost to NO_PROXY while a proxy is set ($1 is add), because requests to the gateway must
# not go through a proxy, or removes them. They are a suffix, so that removing them restores the user's value.
__vx_token_update_no_proxy() {
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

# Exports $1 with the value $2 without its last comma, or unsets it when nothing is left.
__vx_token_trim_no_proxy() {
  if [[ $2 ]]; then
    __vx_token_export "$1" "${2%,}"
  else
    __vx_token_unset "$1"
  fi
}

# --- Child shells -------------------------------------------------------------------------------------------------

# Exports VX_TOKEN_HOOK, which shows child shells that there is a hook and whose values the variables have: ours
# (`NAME:` and the fingerprint), set by the user or missing (`NAME:` alone), or set aside (`NAME~` and the
# fingerprint).
__vx_token_export_marker() {
  builtin local _vx_name _vx_index _vx_fingerprint _vx_marker='1 '
  for _vx_name in ${__vx_token_seen[0]}; do
    _vx_fingerprint=
    ! __vx_token_find_held "$_vx_name" || __vx_token_fingerprint "${__vx_token_held_values[_vx_index]}"
    _vx_marker+="$_vx_name:$_vx_fingerprint "
  done
  _vx_marker+=${__vx_token_fingerprints[0]}
  [[ ${VX_TOKEN_HOOK-} == "$_vx_marker" ]] || __vx_token_export VX_TOKEN_HOOK "$_vx_marker"
}

# Reads the marker of the parent shell. A variable that matches is ours. One that matches a value set aside was set
# again by a start-up file, and is set aside again. Any other was set for this shell by the user.
__vx_token_import_marker() {
  builtin local "_vx_marker='' ${VX_TOKEN_HOOK-}" _vx_rest _vx_word _vx_name _vx_fingerprint
  _vx_rest=${_vx_marker# }
  while [[ $_vx_rest == *' '* ]]; do
    _vx_word=${_vx_rest%% *} _vx_rest=${_vx_rest#* }
    _vx_name=${_vx_word%%[:~]*}
    __vx_token_is_allowed_name "$_vx_name" || builtin continue
    [[ $_vx_word != *'~'* ]] || __vx_token_fingerprints=("${__vx_token_fingerprints[0]}$_vx_word ")
    [[ ${!_vx_name+x} ]] || builtin continue
    __vx_token_fingerprint "${!_vx_name}"
    if [[ $_vx_marker == *" $_vx_name:$_vx_fingerprint "* ]]; then
      __vx_token_set_variable "$_vx_name" "${!_vx_name}"
    elif [[ $_vx_marker != *" $_vx_name~$_vx_fingerprint "* && ${__vx_token_seen[0]} != *" $_vx_name "* ]]; then
      __vx_token_seen=("${__vx_token_seen[0]}$_vx_name ")
    fi
  done
}

# Sets _vx_fingerprint to the length and the last four characters of the ASCII part of $1. Child shells recognize a
# value by that, in any locale, and the marker need not hold a second copy of the token.
__vx_token_fingerprint() {
  { builtin local LC_ALL=C; } 2>&-
  builtin local _vx_ascii
  _vx_ascii=${1//[!!-~]/}
  _vx_fingerprint=${#_vx_ascii}:
  ((${#_vx_ascii} < 4)) || _vx_fingerprint+=${_vx_ascii: -4}
}

# --- Status and notices -------------------------------------------------------------------------------------------

# Exports VX_TOKEN_STATUS for prompts: `gemini 42m`, `gemini gateway`, `gemini login`, `gemini expired`, `gemini
# paused`.
__vx_token_set_status() {
  builtin local _vx_status=''
  case ${__vx_token_state[0]} in
    ok | malformed)
      _vx_status=$(((__vx_token_expires - __vx_token_now) / 60))m
      [[ ${__vx_token_mode[0]} != gateway ]] || _vx_status=gateway
      ;;
    login | expired) _vx_status=${__vx_token_state[0]} ;;
    paused* | readonly*) _vx_status=paused ;;
  esac
  _vx_status="${__vx_token_profile[0]} $_vx_status"
  if [[ $_vx_status == ' '* || $_vx_status == *' ' ]]; then
    __vx_token_unset VX_TOKEN_STATUS
  elif [[ ${VX_TOKEN_STATUS-} != "$_vx_status" ]]; then
    __vx_token_export VX_TOKEN_STATUS "$_vx_status"
  fi
}

# Prints one line when the state differs from the last one printed. Before the first prompt it prints nothing,
# because powerlevel10k's instant prompt warns about any output there.
__vx_token_notify() {
  builtin local "_vx_state=${__vx_token_state[0]}" _vx_notice
  if [[ ! ${__vx_token_notified[0]} ]]; then
    __vx_token_notified=(gone)
    builtin return 0
  fi
  __vx_token_notified=("$_vx_state")
  case $_vx_state in
    ok) builtin return 0 ;;
    login) _vx_notice=${__vx_token_notice[0]:-a login is required; run: vx-token status} ;;
    expired) _vx_notice="the token of ${__vx_token_profile[0]} has expired; run: vx-token status" ;;
    gone) _vx_notice="${__vx_token_file[0]} does not exist, so the variables are unset; run: vx-token status" ;;
    unsafe) _vx_notice="${__vx_token_file[0]} is ignored because other users can replace it; run: vx-token status" ;;
    foreign) _vx_notice="${__vx_token_file[0]} is ignored because it belongs to another user" ;;
    unreadable) _vx_notice="${__vx_token_file[0]} cannot be read" ;;
    malformed) _vx_notice="${__vx_token_file[0]} is ignored because its format is invalid" ;;
    paused*) _vx_notice="${_vx_state#* } was set in this shell and wins; run vx-token-on to resume" ;;
    readonly*) _vx_notice="${_vx_state#* } is read-only in this shell, so no variable is set" ;;
  esac
  [[ ! -t 2 ]] || builtin printf 'vx-token: %s\n' "$_vx_notice" >&2
}

# --- Commands for the user ----------------------------------------------------------------------------------------

# Removes our variables and the hook from this shell, and restores the user's values.
__vx_token_turn_off() {
  builtin local _vx_name
  __vx_token_withdraw __vx_token_restore
  for _vx_name in ${__vx_token_aside_names[@]+"${__vx_token_aside_names[@]}"}; do
    [[ ! $_vx_name || ${!_vx_name+x} ]] || __vx_token_restore "$_vx_name"
  done
  __vx_token_aside_names=() __vx_token_aside_values=() __vx_token_aside_attributes=() __vx_token_fingerprints=('')
  __vx_token_withdraw_token
  __vx_token_unregister
  if [[ ${__vx_token_prior_profile+x} ]]; then
    __vx_token_set_profile "${__vx_token_prior_profile[0]}"
    builtin unset -v __vx_token_prior_profile
  fi
  __vx_token_unset VX_TOKEN_STATUS
  __vx_token_unset VX_TOKEN_HOOK
  __vx_token_off=(yes)
}

# Sets our variables again. A value that the user has set in the meantime is set aside.
__vx_token_turn_on() {
  __vx_token_reset
  __vx_token_overriding=(yes)
  __vx_token_update_variables
  __vx_token_overriding=()
  [[ $- != *i* ]] || __vx_token_register
  builtin return 0
}

# Switches this shell, and the programs that it starts, to profile $1, or to the default profile.
__vx_token_use() {
  builtin local _vx_file
  __vx_token_find_file "${1:-default}"
  if [[ ${1-} == *[!A-Za-z0-9._-]* || ${1-} == [.-]* || ! -d ${_vx_file%/*} ]]; then
    builtin printf 'vx-token: profile %q does not exist\nhint: run vx-token status to list the profiles, or vx-token refresh --profile NAME to fetch a first token\n' "${1:-default}" >&2
    builtin return 1
  fi
  [[ ${__vx_token_prior_profile+x} ]] || __vx_token_prior_profile=("${VX_TOKEN_PROFILE-}")
  __vx_token_set_profile "${1-}"
  [[ ${__vx_token_off-} ]] || __vx_token_update_variables
}

# Exports VX_TOKEN_PROFILE with the value $1, or unsets it if $1 is empty.
__vx_token_set_profile() {
  if [[ $1 ]]; then
    __vx_token_export VX_TOKEN_PROFILE "$1"
  else
    __vx_token_unset VX_TOKEN_PROFILE
  fi
}

# Forgets all state but the user's values. $1 is the state last printed, empty in a new shell: see notify.
__vx_token_reset() {
  __vx_token_file=('')
  __vx_token_clear_offer
  __vx_token_state=(gone) __vx_token_notified=("${1-gone}") __vx_token_due=(0) __vx_token_valid_from=(0) __vx_token_valid_until=(0)
  __vx_token_seen=(' ') __vx_token_off=()
}

# --- Older shells -------------------------------------------------------------------------------------------------

# bash 4.3 and older: no PS0, and no attributes of a variable without a fork. A key that was set before is nearly always
# exported.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  __vx_token_arm() { builtin return 0; }
  __vx_token_read_attributes() { _vx_attributes=x; }
fi

# bash 4.1 and older: no clock but SECONDS, which counts from the start of the shell, so `date` runs once. Without a
# snapshot each prompt runs a full update.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 402)); then
  [[ ${__vx_token_epoch-} ]] || __vx_token_epoch=($(($(builtin command -p date +%s) - SECONDS)))
  # shellcheck disable=SC2128 # the array has one element
  __vx_token_read_clock() { _vx_now=$((__vx_token_epoch + SECONDS)); }
  __vx_token_take_snapshot() { builtin return 0; }
fi

# bash 3.2: no mapfile.
if ((BASH_VERSINFO[0] < 4)); then
  __vx_token_read_file() {
    builtin local _vx_line
    _vx_lines=()
    {
      while IFS= builtin read -r _vx_line; do
        _vx_lines[${#_vx_lines[@]}]=$_vx_line
      done <"$_vx_file"
    } 2>&-
  }
fi

# --- Loading ------------------------------------------------------------------------------------------------------

# POSIX mode allows no hyphen in a function name, but it does in an alias.
if [[ :$SHELLOPTS: == *:posix:* ]]; then
  builtin alias vx-token-on='__vx_token_quietly __vx_token_turn_on'
  builtin alias vx-token-off='__vx_token_quietly __vx_token_turn_off'
  builtin alias vx-token-use='__vx_token_quietly __vx_token_use'
else
  vx-token-on() { __vx_token_quietly __vx_token_turn_on; }
  vx-token-off() { __vx_token_quietly __vx_token_turn_off; }
  vx-token-use() { __vx_token_quietly __vx_token_use "$@"; }
fi

# Runs once when the file is sourced; sourcing it again only updates.
__vx_token_start() {
  if [[ ! ${__vx_token_loaded-} ]]; then
    __vx_token_names=() __vx_token_values=() __vx_token_held_names=() __vx_token_held_values=() __vx_token_past=()
    __vx_token_aside_names=() __vx_token_aside_values=() __vx_token_aside_attributes=() __vx_token_proxied=('')
    __vx_token_fingerprints=('') __vx_token_overriding=() __vx_token_safe_folder=('') __vx_token_sticky_entries=()
    __vx_token_reset ''
    __vx_token_import_marker
    __vx_token_loaded=(yes)
  fi
  [[ ! ${__vx_token_off-} ]] || builtin return 0
  __vx_token_update_variables
  [[ $- != *i* ]] || __vx_token_register
  builtin return 0
}
__vx_token_quietly __vx_token_start

[[ ! ${__vx_token_aliases-} ]] || builtin shopt -s expand_aliases
\builtin unset -v __vx_token_aliases
