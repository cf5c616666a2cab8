# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints the files of jobs, as grep(1) does ("FOLDER/FILE:LINE"), the processes that they name, this
# machine and the clock.  "FOLDER/unread:" means that a job has files that cannot be read.
#
# Two programs run: grep(1) reads the process table and then the jobs' files, once for some hundred
# jobs; date(1) prints the host's clock.
#
# parameters: rt_folder rt_wanted
#   rt_wanted  ids of jobs, or *

# include: identity.sh
# include: machine.sh

rt_unknown() {
  echo "ringtasks: $1 cannot be read, so the states of the jobs are not known" >&2
  exit 1
}
rt_boot
[ "$rt_boot" != unknown ] || rt_unknown /proc/sys/kernel/random/boot_id
echo "ringtasks-boot:$rt_boot"
rt_machine
[ "$rt_space" != unknown ] || rt_unknown /proc/self/ns/pid
echo "ringtasks-machine:$rt_machine"
echo "ringtasks-now:$(date +%s)"
# If a folder cannot be entered, nothing is known of the next one in it.
cd "$HOME/$rt_folder" 2>/dev/null && [ -r . ] || {
  cd "$HOME" || exit 1
  [ -e "${rt_folder%/*}" ] || exit 0
  cd "./${rt_folder%/*}" || exit 1
  [ -e "${rt_folder##*/}" ] || exit 0
  echo "ringtasks: $HOME/$rt_folder cannot be read" >&2
  exit 1
}

# The processes come first: a job that ends meanwhile has then written its exit status to its files,
# and one that begins meanwhile has a process that was not asked about. While the monitor runs, a job
# whose process is gone has an end that is about to be recorded.
set --
for rt_job in $rt_wanted; do
  [ -f "$rt_job/exit_status" ] && [ -s "$rt_job/exit_status" ] && [ -r "$rt_job/exit_status" ] &&
    continue
  for rt_file in "" /process /monitor /exit_status; do
    [ -r "$rt_job$rt_file" ] || [ ! -e "$rt_job$rt_file" ] || echo "$rt_job/unread:"
  done
  [ -x "$rt_job" ] || [ ! -d "$rt_job" ] || echo "$rt_job/unread:"
  rt_read "$rt_job/pid" || rt_read "$rt_job/process" && set -- "$@" "${rt_line%% *}"
  [ -f "$rt_job/monitor" ] || continue
  { read -r rt_monitor rt_old _ rt_lock rt_other <"$rt_job/monitor"; } 2>/dev/null || continue
  set -- "$@" "$rt_monitor"
  # If the machine has other names, it is another one.
  if [ "$rt_old $rt_other" != "$rt_boot $rt_machine" ] &&
    [ "${rt_other#* }" = "${rt_machine#* }" ]; then
    rt_read_lock "$rt_job" "${rt_lock:--}"
    echo "$rt_job/lock:$rt_lock"
  fi
done
echo "ringtasks-asked:$*"
if [ -r /proc/self/stat ]; then
  for rt_pid; do shift; set -- "$@" "/proc/$rt_pid/stat"; done
else
  for rt_pid; do
    shift
    rt_start "$rt_pid"
    [ "$rt_start" != unknown ] || rt_unknown "the start of process $rt_pid"
    echo "/proc/$rt_pid/start:$rt_start"
  done
fi
# /dev/null makes grep print the file's name before every line. Status 2: a file has gone meanwhile.
rt_print() {
  LC_ALL=C grep -s "" "$@" /dev/null
  [ $? -le 2 ] || { echo "ringtasks: grep(1) cannot read the files of the jobs" >&2; exit 1; }
}
# All of a job's files but the log, its limits and its times. A command takes a limited number of
# arguments (execve(2), ARG_MAX).
for rt_job in $rt_wanted; do
  for rt_file in "$rt_job"/[!lt]*; do
    [ -f "$rt_file" ] || [ -d "$rt_file" ] || [ ! -e "$rt_file" ] || {
      echo "$rt_job/unread:" # a FIFO or a device
      continue 2
    }
  done
  set -- "$@" "$rt_job"/[!lt]*
  [ $# -lt 1000 ] || { rt_print "$@"; set --; }
done
rt_print "$@"
