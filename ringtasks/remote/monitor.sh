# shellcheck disable=SC2154  # the included functions set variables
# The monitor of a job: waits for the job's turn and its end, and records its exit status.
# Its arguments are those of start.sh.
#
# The trap lets the monitor outlive a signal to every process of the job; unlike an ignored signal,
# it is not inherited. Some shells print a message about a killed child; it is dropped, because the
# exit status tells the same.
trap : HUP INT TERM

# include: identity.sh
# include: machine.sh

# Another container, to which this process is not visible, sees by the lock that it runs.
exec 9>>"$1/monitor"
rt_lock=
! timeout 5 flock -n 9 2>/dev/null || rt_lock=$(stat -c %d "$1/monitor" 2>/dev/null)
rt_machine
case $rt_machine in unknown*) echo "ringtasks: /proc/self/ns/pid cannot be read" && exit 1 ;; esac
rt_identity "${rt_lock:--} $rt_machine" >"$1/monitor" && printf '   \n' >"$1/exit_status.new" &&
  printf '%10s\n' "" >"$1/ended_at.new" || exit 1
[ -s "$1/monitor" ] && [ -s "$1/exit_status.new" ] && [ -s "$1/ended_at.new" ] || exit 1

rt_is_mine() {
  read -r rt_pid _ <"$1/monitor"
  [ "$rt_pid" = $$ ]
}

# The text of a turn redefines them; each gets the job's folder.
rt_waits=
rt_check() { :; }
rt_wait() { :; }
rt_finish() { :; }
eval "${10}"

rt_check "$1"
if [ "$rt_waits" ]; then
  # From here on the starter no longer waits, and the folder has its final name.
  mv -f "$1" "$2" 2>/dev/null || [ -s "$2/monitor" ] || mv -f "$1" "$2" || exit 1
  echo queued
  rt_is_mine "$2" || exit
  exec >/dev/null 2>&1
  shift
  set -- "$1" "$@"
  rt_wait "$1"
fi

# Record the log's size with the time, for readers that ask for the output since a time; and keep
# the log below its limit by making a hole at its beginning (fallocate(1)): the rest keeps its
# offset, and output that is written meanwhile is not lost. Blocks are freed by the page. The new
# beginning is written to log.first before the hole is made. If no hole can be made, on macOS for
# example, the log is left as it is. The mark is unset, so that programs run here do not count as
# processes of the job. If the monitor is killed, this runs on as long as the command, and keeps the
# lock: a command whose log is elsewhere has none.
rt_watch() {
  unset RINGTASKS_RUN_ID
  rt_size=0
  trap 'kill "$rt_sleep"; exit' TERM
  while
    sleep 5 &
    rt_sleep=$!
    # shellcheck disable=SC2086  # the fields of an identity
    wait "$rt_sleep" && { kill -0 $$ || { rt_read "$2/process" && rt_is_alive $rt_line; }; }
  do
    [ -e "$2/log" ] || continue
    # shellcheck disable=SC2012  # wc(1) may read the file, and stat(1) is not in POSIX
    set -- "$1" "$2" "$(LS_BLOCK_SIZE=1 ls -lnL "$2/log" | { read -r _ _ _ _ rt_now _ && echo "$rt_now"; })" "$4"
    [ "$3" = "$rt_size" ] && continue
    rt_size=$3
    echo "$(date +%s) $rt_size" >>"$2/times"
    read -r rt_first <"$2/log.first" || rt_first=0
    [ $((rt_size - rt_first)) -gt "$4" ] && [ ! -h "$2/log" ] || continue
    rt_first=$(((rt_size - $4 / 2) / 4096 * 4096))
    echo "$rt_first" >"$2/log.first.new" && mv -f "$2/log.first.new" "$2/log.first"
    fallocate -p -o 0 -l "$rt_first" "$2/log" || rm -f "$2/log.first"
  done
}

[ "$4" ] || { (set -m) && set -m; } 2>/dev/null
exec 3>&1 >/dev/null 2>&1
(rt_watch "$1" "$2" "" "$9") 3>&- &
eval "(exec $4 $8 -c"' "$6" sh "$@" >&3 2>&3 9>&-)'
set -- "$2" $? "$1"
kill $!
rt_finish "$1"
rt_is_mine "$1" || exit
printf '%10s\n' "$(date +%s)" 1<>"$1/ended_at.new" && mv -f "$1/ended_at.new" "$1/ended_at"
printf '%-3s\n' "$2" 1<>"$1/exit_status.new" && mv -f "$1/exit_status.new" "$1/exit_status"
