# shellcheck disable=SC2154  # the program that includes this includes identity.sh
# Functions that tell this machine from another one that shares the home. A boot id names a kernel:
# its containers share it, but each has process ids of its own (pid_namespaces(7)).

# Sets rt_machine to "NAMESPACE MACHINE HOSTNAME"; "-" for what is not known. Images may leave the
# machine id out, or give the same one to each of their copies.
rt_machine() {
  rt_space=$(readlink /proc/self/ns/pid 2>/dev/null)
  read -r rt_machine 2>/dev/null </etc/machine-id || rt_machine=
  [ "$rt_machine" != uninitialized ] || rt_machine=
  read -r rt_host 2>/dev/null </proc/sys/kernel/hostname || rt_host=$(uname -n)
  rt_machine="${rt_space:--} ${rt_machine:--} ${rt_host%% *}"
}

# Succeeds if $1 and $2 are known and differ.
rt_differ() {
  [ "${1:--}" != - ] && [ "${2:--}" != - ] && [ "$1" != "$2" ]
}

# Sets rt_began to the start of the first process of this namespace of process ids, in clock ticks
# after the boot; "-" if it is not known.
rt_began() {
  rt_start 1
  case $rt_start in "" | *[!0-9]*) rt_began=- ;; *) rt_began=$rt_start ;; esac
}

# Succeeds if a process that began at $1 began in another namespace than this one, which began at $2,
# while this one existed: so its own is no earlier run of this container.
rt_is_beside() {
  case $1-$2 in *[!0-9-]* | -* | *- | *-*-*) return 1 ;; esac
  [ "$2" -le "$1" ]
}

# Succeeds if the job of the folder $1 belongs to another machine, whose processes are not seen here.
# jobs/machine.py has the same rule. $2 is "host": and the name of this host as JSON, as the file
# about has it for the host on which the job was started; "": any.
rt_is_elsewhere() {
  rt_about=$1/about
  rt_name=$2
  read -r rt_rest 2>/dev/null <"$1/monitor" || return 1
  rt_boot
  rt_machine
  rt_began
  # shellcheck disable=SC2086  # PID BOOT START - NAMESPACE MACHINE HOSTNAME, and ours
  set -- $rt_rest
  # shellcheck disable=SC2086
  set -- "$2" "$rt_boot" "${3:--}" "${5:--}" "${6:--}" "${7:--}" $rt_machine
  if [ "$1" = "$2" ]; then
    rt_differ "$4" "$7" || return 1
    ! rt_is_beside "$3" "$rt_began" || return 0
  fi
  rt_differ "$5" "$8" || rt_differ "$6" "$9" || {
    [ "$rt_name" ] && grep -qs '"host": "' "$rt_about" && ! grep -qsF "$rt_name" "$rt_about"
  }
}
