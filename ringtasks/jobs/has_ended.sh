# Succeeds if the job of the folder $1 has ended.
rt_has_ended() {
  [ ! -s "$1/exit_status" ] || return 0
  for rt_file in "$1/process" "$1/keeper"; do
    # shellcheck disable=SC2086  # the fields of an identity
    read -r rt_rest 2>/dev/null <"$rt_file" && rt_is_alive $rt_rest && return 1
  done
  return 0
}
