# shellcheck disable=SC2154  # the program that includes this includes identity.sh
# Succeeds if the holder JOB.PID.BOOT.START, which the target of a link names, is running. If $2 is
# set, any of its processes counts, not only its monitor.
rt_holds() {
  rt_rest=${1#*.*.}
  rt_pid=${1#*.}
  rt_is_alive "${rt_pid%%.*}" "${rt_rest%.*}" "${rt_rest##*.}" && return
  case $1 in *".$rt_boot."*) ;; *) return 1 ;; esac
  [ "$2" ] && grep -qsFe "RINGTASKS_RUN_ID=${1%%.*}" /proc/[0-9]*/environ
}
