# The leader of a job: takes the job's folder and becomes the command. Its arguments are those of
# start.sh.
exec 3>&1 >>"${3:-$1/log}" || exit 1
# Kept by the command with its stdout, beside the monitor's lock. No other program locks this file.
[ "$3" ] || timeout 5 flock -sn 1 2>/dev/null

# include: identity.sh

# Read before the start is answered. The full stop shows that all of it was read.
rt_command=$(cat "$1/command" && echo .)
case $rt_command in
  ?*.) ;;
  *)
    echo "ringtasks: $2/command cannot be read"
    [ "$1" = "$2" ] || echo "ringtasks: the command cannot be read from $1/command" >&3
    exit 126
    ;;
esac

rt_identity "$(date +%s)" >"$1/process" && [ -s "$1/process" ] || exit 1
echo $$ >"$1/pid" && read -r rt_pid <"$1/pid" && [ "$rt_pid" = $$ ] || exit 1
if [ "$1" != "$2" ]; then
  mv -f "$1" "$2" 2>/dev/null || [ -s "$2/pid" ] || mv -f "$1" "$2" || exit 1
  # If the starter is killed after the leader has taken the folder, SIGPIPE must not end the leader.
  trap "" PIPE
  read -r rt_pid <"$2/pid"
  echo "started $rt_pid" >&3
  trap - PIPE
  [ "$rt_pid" = $$ ] || exit
fi
exec 2>&1 3>&-

# If the command is a single program, the process id is the program's: it gets the signals, and "ps"
# shows its name. Otherwise the command is an argument, so that "ps" shows it, if Linux accepts it
# as one: 128 KiB (execve(2), MAX_ARG_STRLEN); a character has up to 4 bytes.
set -- "$8" "${rt_command%.}" "$5"
[ "$3" ] && case $(command -v "$3") in */*) eval "exec $2" ;; esac
[ ${#2} -gt 30000 ] || eval "exec $1 -c"' "$2"'
eval "shift 3
$2"
