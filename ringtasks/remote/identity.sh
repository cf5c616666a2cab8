# Functions that identify a process for ever: a process id is reused, but within one boot not with
# the same start (clock ticks since the boot, proc_pid_stat(5) field 22, which setting the clock
# does not change). On Linux they run no program; on other systems ps(1) and sysctl(8).

# Sets rt_start to the start of process $1; empty: there is none, or it is a zombie.
rt_start() {
  rt_start=
  if [ -r /proc/self/stat ]; then
    read -r rt_start 2>/dev/null <"/proc/$1/stat" || return 0
    # shellcheck disable=SC2086  # the fields
    set -- ${rt_start##*) }
    case $1 in [ZX]*) rt_start= ;; *) rt_start=${20} ;; esac
  else
    # In UTC: ps prints local time, and a job may have a time zone of its own.
    rt_start=$(TZ=UTC0 LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _)
  fi
}

# Sets rt_boot to the id of this boot.
rt_boot() {
  read -r rt_boot 2>/dev/null </proc/sys/kernel/random/boot_id ||
    rt_boot=$(sysctl -n kern.bootsessionuuid 2>/dev/null || echo none)
}

# Prints "PID BOOT START" of this shell, and $1.
rt_identity() {
  rt_boot
  rt_start $$
  echo "$$ $rt_boot $rt_start $1"
}

# Succeeds if the process $1 of the boot $2 with the start $3 is running.
rt_is_alive() {
  rt_boot
  rt_start "$1"
  [ "$rt_start" ] && [ "$rt_boot $rt_start" = "$2 $3" ]
}
