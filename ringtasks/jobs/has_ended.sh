# Succeeds if the job of the folder $1 has ended. Of a job of another machine only the recorded end
# is known.
rt_has_ended() {
  [ ! -s "$1/exit_status" ] || return 0
  ! rt_is_elsewhere "$1" "" || return 1
  for rt_file in "$1/process" "$1/monitor"; do
    [ -s "$rt_file" ] || [ -p "$rt_file" ] || continue
    rt_read "$rt_file" || [ "$rt_line" ] || return 1
    # shellcheck disable=SC2086  # the fields of an identity
    rt_is_alive $rt_line && return 1
  done
  return 0
}
