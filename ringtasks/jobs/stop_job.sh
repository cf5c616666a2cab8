# shellcheck disable=SC2034,SC2154  # the parameters are assigned before the first line
# Ends a job: prints "before PID NAME" for each of its processes, "after PID NAME" for those that
# are still there, "orphan PID NAME" for those that may be the job's, "unrecorded" if nothing can be
# written to its folder, "looked" if the look for them was complete, "reserved UUID" for its GPUs and
# "holds UUID, PID, MEMORY" for what is on GPUs.
#
# Of a job of another machine that shares the home it prints "elsewhere" alone.
#
# parameters: rt_folder rt_id rt_by rt_host grace_cs
#   rt_by       the user who stops it
#   rt_host     "host": and the name of the host, as JSON
#   grace_cs    hundredths of a second between TERM and KILL

# include: identity.sh
# include: machine.sh
# include: clock.sh
# include: processes.sh
# include: gpus.sh

# Sets $alive to the process that the file $1 names, if it is seen to run: what cannot be read may be
# another process, and gets no signal.
read_alive() {
  alive=
  # shellcheck disable=SC2086  # the fields of an identity
  rt_read "$1" && rt_is_alive $rt_line || return
  case $rt_boot.$rt_start in unknown.* | *.unknown) return 1 ;; esac
  alive=${rt_line%% *}
}

# Prints "$1 PID NAME" for each line "PID:START NAME" of $2; runs no program, which could fail.
list() {
  set -f
  separators=$IFS
  IFS='
'
  for line in $2; do echo "$1 ${line%%:*} ${line#* }"; done
  IFS=$separators
  set +f
}

cd "$HOME/$rt_folder/$rt_id" 2>/dev/null || cd / || exit 1
if rt_is_elsewhere . "$rt_host"; then
  echo elsewhere
  exit
fi

# Put together here: under ForceCommand sshd shows this whole text in the environment, and it would
# find itself.
mark=RINGTASKS_RUN_ID
mark=$mark=$rt_id
with_sudo=0

# The group and the session are the job's only while the leader is the same process. The monitor gets
# no signal: it records the job's exit status.
read_alive process
group=$alive
latest=$rt_start
# shellcheck disable=SC2086  # the fields of an identity
began=$(for file in process monitor; do
  [ -f $file ] && { read -r pid boot start rest <$file; } 2>/dev/null && echo "$start" && break
done)
# The monitor is the first process of the job.
[ ! -f monitor ] || { read -r spared monitor_boot since rest <monitor; } 2>/dev/null || spared=
[ "$monitor_boot" = "$rt_boot" ] || since=
read_alive monitor

# Only a job that runs or waits is recorded as stopped: the end of any other job is recorded already,
# or will be, and must not be replaced.
if [ ! -s exit_status ] && { [ "$group" ] || { [ ! -s process ] && [ "$alive" ]; }; }; then
  printf '%s\n' "$rt_by" >stopped
  [ -e stopped ] || echo unrecorded
fi

end_processes "$grace_cs"

# A monitor that was stopped (SIGSTOP) records nothing.
[ -z "$alive" ] || kill -s CONT "$alive" 2>/dev/null
now
end=$((now + 500))
while read_alive monitor && [ "$now" -lt "$end" ]; do
  pause 0.1
  now
done
# A monitor that was killed leaves the process that watches the log.
if [ -z "$alive" ] && [ ! -s exit_status ] && [ "$monitor_boot" = "$rt_boot" ]; then
  spared=
  end_processes 0
fi
now
end=$((now + 200))
look_until_end
list before "$seen"
list after "$found"
# A process that had left its session, its environment and its parent before has no link to the job.
# Those are shown that began after the job, have no parent, are of this user and of no other run.
printf '%s\n' "$rows" | awk -v began="$began" -v monitor="$spared" '
  $2 == 1 && $4 != monitor && began + 0 && $5 + 0 >= began + 0 { print }' |
  while read -r pid _ _ _ start name; do
    case $seen in *"$pid:$start "*) continue ;; esac
    # shellcheck disable=SC3067  # -O: dash, bash, zsh and BusyBox have it
    [ -O "/proc/$pid" ] && ! grep -qs RINGTASKS_RUN_ID= "/proc/$pid/environ" &&
      echo "orphan $pid $name"
  done
[ "$is_blind" ] || echo looked
[ -s gpu_uuids ] && sed 's/^/reserved /' gpu_uuids
rt_gpus 2>/dev/null | sed -n 's/^app /holds /p'
