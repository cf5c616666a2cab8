# shellcheck disable=SC2154  # the parameters are assigned before the first line
# The starter of a job: prints the process id of the job, "queued", or an error.
#
# parameters: rt_folder rt_id rt_log rt_command rt_about rt_shell rt_log_limit rt_program rt_turn rt_leader rt_monitor
#   rt_folder   the folder of all jobs, below the home
#   rt_log      the log file; "": the one in the job's folder
#   rt_about    text that is written to the job's folder; "": none
#   rt_program  the program if the command is a single one; "": it is not
#   rt_turn     shell functions by which the job waits for its turn; "": it does not
#   rt_leader   the text of the leader's program
#   rt_monitor   the text of the monitor's program
#
# All three programs of a job keep their values in positional parameters or in variables with names
# of their own: any other variable may belong to the job's environment.
set -- "$HOME/$rt_folder" "$rt_id"
if [ -s "$1/$2/monitor" ]; then
  if [ -f "$1/$2/pid" ] && { read -r rt_pid <"$1/$2/pid"; } 2>/dev/null; then echo "$rt_pid"; else echo queued; fi
  exit
fi

# util-linux and BusyBox have setsid(1); macOS has Perl instead. Like setsid(1), the Perl program
# forks only if it already leads a process group. PERL_BADLANG: without it perl(1) warns of a locale
# that the host lacks.
rt_detach=
if command -v setsid >/dev/null; then
  rt_detach=setsid
elif command -v perl >/dev/null; then
  rt_detach="env PERL_BADLANG=0 perl -MPOSIX -e 'delete \$ENV{PERL_BADLANG}; POSIX::setsid() > 0 or do { fork and exit; POSIX::setsid() }; exec { \$ARGV[0] } @ARGV'"
fi

# Of all three programs: $1 the prepared folder, $2 the job's folder, $3 the log, $4 the command
# that starts a program in a session of its own ("": there is none), $5 the single program, $6 the
# leader's text, $7 the monitor's text, $8 the shell, $9 the limit of the log in bytes; of the monitor
# also ${10} the turn.
set -- "$1/.$2.$$" "$1/$2" "$rt_log" "$rt_detach" "$rt_program" "$rt_leader" "$rt_monitor" \
  "$rt_shell" "$rt_log_limit" "$rt_turn"

# If a disk is full, some shells only print "I/O error", so the starter asks df(1).
# The first setsid does not lead a process group; the second does, so it forks and returns at once.
# With "&" the job would ignore SIGINT for ever (XCU 2.11). Without setsid, "set -m" makes the job
# leader of a process group at least, if the shell can do so without a terminal: bash can; dash
# cannot, and zsh exits, so a subshell tries first. Then the job stays in sshd's session.
{
  { [ -d "${1%/*}" ] || (umask 077 && mkdir -p "${1%/*}"); } && mkdir -m 700 "$1" &&
    printf %s "$rt_command" >"$1/command" &&
    { [ -z "$rt_about" ] || printf '%s\n' "$rt_about" >"$1/about"; } &&
    case $3 in */*) mkdir -p "${3%/*}/" ;; esac &&
    case $3 in "") ;; /*) ln -s "$3" "$1/log" ;; *) ln -s "$PWD/${3#./}" "$1/log" ;; esac &&
    exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- && {
    if [ "$4" ]; then
      eval "$4 $4 $8 -c"' "$7" sh "$@"'
    else
      { (set -m) && set -m; } 2>/dev/null
      # "exec": a shell between would hold the connection's streams.
      eval "exec $8 -c"' "$7" sh "$@"' &
    fi
  } </dev/null 2>&1 | (
    while IFS= read -r rt_line; do
      case $rt_line in
        "started "*) echo "${rt_line#started }"; exit ;;
        "queued") echo queued; exit ;;
      esac
      printf '%s\n' "$rt_line" >&2
    done
    exit 1
  )
} || {
  df -Pk "${1%/*/*}" 2>/dev/null | tail -n 1 | {
    IFS=' ' read -r rt_disk _ _ rt_free rt_rest
    [ "${rt_free:-64}" -ge 64 ] || echo "No space left on $rt_disk, ${rt_rest#* }" >&2
  }
  rm -rf "$1"
  echo "ringtasks: the job was not started" >&2
  exit 1
}
[ ! -e "$1" ] && [ ! -e "$2/${1##*/}" ] || rm -rf "$1" "${2:?}/${1##*/}"
