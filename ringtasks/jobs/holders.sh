# shellcheck disable=SC2034,SC2154  # the program that includes this includes identity.sh, machine.sh
# Succeeds if the holder JOB.PID.BOOT.START.NAMESPACE, which the target of a link names, is running.
# If $2 is set, any of its processes counts, not only its monitor. Processes of another process id
# namespace, for example of another container with this home, are not seen: their holder counts as
# running, and rt_outside is its namespace (else ""), unless the container of the job was restarted.
rt_holds() {
  rt_outside=
  rt_boot
  rt_namespace
  rt_old_ifs=$IFS
  IFS=.
  # shellcheck disable=SC2086  # the fields
  set -- "$2" $1
  IFS=$rt_old_ifs
  if [ "$rt_boot" = "$4" ] && rt_differ "$6" "$rt_space"; then
    rt_job=$HOME/.ringtasks/jobs/$2
    [ ! -s "$rt_job/monitor" ] || rt_is_elsewhere "$rt_job" "" || return 1
    rt_outside=$6
    return 0
  fi
  rt_is_alive "$3" "$4" "$5" && return
  case $rt_boot in unknown) return 0 ;; "$4") ;; *) return 1 ;; esac
  [ "$1" ] && grep -qsFe "RINGTASKS_RUN_ID=$2" /proc/[0-9]*/environ
}

# Sets rt_space to the number of this process id namespace, of "pid:[NUMBER]".
rt_namespace() {
  rt_machine
  rt_space=${rt_space#*"["}
  rt_space=${rt_space%"]"}
}
