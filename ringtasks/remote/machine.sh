# shellcheck disable=SC2154  # the program that includes this includes identity.sh
# Functions that tell this machine from another one that shares the home. A boot id names a kernel:
# its containers share it, but each has process ids of its own (pid_namespaces(7)). A lock on a file
# (flock(2)) is seen by all of them.

# Sets rt_machine to "NAMESPACE MACHINE HOSTNAME"; "-" for what is not known. Images may leave the
# machine id out, or give the same one to each of their copies. The namespace is "unknown" if it
# cannot be read at present: then it differs from any.
rt_machine() {
  rt_space=$(readlink /proc/self/ns/pid 2>/dev/null)
  if [ -z "$rt_space" ] && [ -L /proc/self/ns/pid ] && command -v readlink >/dev/null; then
    rt_space=unknown
  fi
  { read -r rt_machine </etc/machine-id; } 2>/dev/null || rt_machine=
  [ "$rt_machine" != uninitialized ] || rt_machine=
  { read -r rt_host </proc/sys/kernel/hostname; } 2>/dev/null || rt_host=$(uname -n)
  rt_machine="${rt_space:--} ${rt_machine:--} ${rt_host%% *}"
}

# Succeeds if $1 and $2 are known and differ.
rt_differ() {
  [ "${1:--}" != - ] && [ "${2:--}" != - ] && [ "$1" != "$2" ]
}

# Sets rt_lock to "held" if a process of the job of the folder $1 holds a lock, and to "free" if none
# does; "-": it is not known. The monitor took one on the file system with the number $2 ("-": it did
# not): locks of two mounts do not always exclude each other. The command has one of the log only if
# that is in the job's folder. If the lock service of an NFS server is silent, flock(1) waits.
rt_read_lock() {
  rt_lock=-
  [ "$2" != - ] || return 0
  if timeout 5 flock -sn "$1/monitor" true 2>/dev/null && {
    [ -h "$1/log" ] || [ ! -f "$1/log" ] || timeout 5 flock -n "$1/log" true 2>/dev/null
  }; then
    [ "$2" != "$(stat -c %d "$1/monitor" 2>/dev/null)" ] || rt_lock=free
  elif [ $? = 1 ]; then
    rt_lock=held
  fi
}

# Succeeds if the job of the folder $1 belongs to another machine, whose processes are not seen here.
# jobs/machine.py has the same rule. $2 is "host": and the name of this host as JSON, as the file
# about has it for the host on which the job was started; "": any.
rt_is_elsewhere() {
  rt_place=$1
  rt_name=$2
  rt_read "$1/monitor" || return 1
  rt_boot
  rt_machine
  # shellcheck disable=SC2086  # PID BOOT START LOCK NAMESPACE MACHINE HOSTNAME, and ours
  set -- $rt_line
  # shellcheck disable=SC2086
  set -- "$2" "$rt_boot" "${4:--}" "${5:--}" "${6:--}" "${7:--}" $rt_machine
  [ "$1" != "$2" ] || rt_differ "$4" "$7" || return 1
  rt_read_lock "$rt_place" "$3"
  case $rt_lock:$1 in held:* | "-:$2") return 0 ;; esac
  rt_differ "$5" "$8" || rt_differ "$6" "$9" || {
    [ "$rt_name" ] && [ -f "$rt_place/about" ] && grep -qs '"host": "' "$rt_place/about" &&
      ! grep -qsF "$rt_name" "$rt_place/about"
  }
}
