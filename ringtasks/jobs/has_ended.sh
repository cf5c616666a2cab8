# Succeeds if the job of the folder $1 has ended, or if that folder is gone. Of a job of another
# machine only the recorded end is known; without the files that name its processes nothing is.
rt_has_ended() {
  [ ! -s "$1/exit_status" ] || return 0
  [ -d "$1" ] || [ ! -x "${1%/*}" ] || return 0
  ! rt_is_elsewhere "$1" "" || return 1
  rt_known=1
  for rt_file in "$1/process" "$1/monitor"; do
    [ -s "$rt_file" ] || [ -p "$rt_file" ] || continue
    rt_read "$rt_file" || [ "$rt_line" ] || return 1
    # shellcheck disable=SC2086  # the fields of an identity
    rt_is_alive $rt_line && return 1
    rt_known=0
  done
  return $rt_known
}
