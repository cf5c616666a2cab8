# Functions that identify a process for ever: a process id is reused, but within one boot not with
# the same start (clock ticks since the boot, proc_pid_stat(5) field 22, which setting the clock
# does not change). On Linux they run no program; on other systems ps(1) and sysctl(8).

# Sets rt_line to the first line of the file $1; fails if it has none. Only a regular file is opened:
# a FIFO would block, and a device may have no end.
rt_read() {
  rt_line=
  # shellcheck disable=SC2034  # for the programs that include this
  [ -f "$1" ] && { read -r rt_line <"$1"; } 2>/dev/null
}

# Sets rt_start to the start of process $1; empty: there is none, or it is a zombie; "unknown": it
# cannot be read, for example since no file can be opened. Only absence proves that a process ended.
rt_start() {
  rt_start=
  if [ -r /proc/self/stat ]; then
    { read -r rt_start <"/proc/$1/stat"; } 2>/dev/null || {
      [ ! -d "/proc/$1" ] || rt_start=unknown
      return 0
    }
    # shellcheck disable=SC2086  # the fields
    set -- ${rt_start##*) }
    rt_start=${20}
    # A zombie that has more than one thread runs: its first thread has ended.
    case $1${18} in [ZX][01]) rt_start= ;; esac
  else
    rt_start=$(rt_listed "$1")
    [ "$rt_start" ] || [ "$(rt_listed $$)" ] || rt_start=unknown
  fi
}

# Prints the start of process $1 as ps(1) shows it.
rt_listed() {
  # In UTC: ps prints local time, and a job may have a time zone of its own.
  TZ=UTC0 LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _
}

# Sets rt_boot to the id of this boot; "unknown": it cannot be read at present.
rt_boot() {
  { read -r rt_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null && return
  rt_boot=unknown
  [ -r /proc/sys/kernel/random/boot_id ] ||
    rt_boot=$(sysctl -n kern.bootsessionuuid 2>/dev/null || echo none)
}

# Prints "PID BOOT START" of this shell, and $1; fails if they cannot be read: later looks could not
# tell whether it runs.
rt_identity() {
  rt_boot
  rt_start $$
  case $rt_boot.$rt_start in
    unknown.* | *. | *.unknown)
      rt_start="there is no /proc, and ps(1) does not print it: mount /proc, or install procps"
      [ ! -r /proc/self/stat ] || rt_start="/proc/$$/stat or the boot id cannot be opened"
      echo "ringtasks: a job's start time cannot be read: $rt_start" >&2
      return 1
      ;;
  esac
  echo "$$ $rt_boot $rt_start $1"
}

# Succeeds if the process $1 of the boot $2 with the start $3 is running, or if that cannot be read:
# then rt_start or rt_boot is "unknown".
rt_is_alive() {
  rt_boot
  rt_start "$1"
  [ "$rt_start" ] || return
  case $rt_boot in unknown | "$2") ;; *) return 1 ;; esac
  case $rt_start in unknown | "$3") ;; *) return 1 ;; esac
}
