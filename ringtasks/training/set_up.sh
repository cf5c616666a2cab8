# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Runs the commands that prepare a run, unless they have run with these inputs. Its names begin with
# "rt_", since the commands have the environment of the user.
#
# parameters: rt_cwd rt_commands rt_key rt_activate rt_done_before inputs...
#   rt_key          text that the commands depend on
#   rt_activate     activates the virtual environment, if it exists
#   rt_done_before  the exit status if there was nothing to do
#   inputs          files and folders that they depend on

cd "$rt_cwd" || exit 1

rt_sum() {
  if command -v sha256sum >/dev/null; then
    sha256sum
  elif command -v shasum >/dev/null; then
    shasum -a 256
  else
    cksum
  fi | tr -dc 0-9a-f
}

# shellcheck disable=SC2012  # the names are not read
rt_sum_of_folder() { ls -AlR . | rt_sum; }

rt_print_inputs() {
  for rt_input; do
    [ -e "$rt_input" ] || continue
    # Not the content: it may be all that earlier runs have made.
    if [ "$rt_input" = ./. ]; then rt_sum_of_folder && continue; fi
    find -L "$rt_input" -type f | LC_ALL=C sort | while IFS= read -r rt_file; do
      printf '%s ' "$rt_file"
      rt_sum <"$rt_file"
    done
  done
}

rt_stamp=$HOME/.ringtasks/setup/$( (
  printf '%s\n' "$rt_key"
  rt_print_inputs "$@"
) | rt_sum)
set --
mkdir -p "$HOME/.ringtasks/setup" || exit 1
if command -v flock >/dev/null; then
  exec 9>"$HOME/.ringtasks/setup/lock"
  flock 9
fi
if [ -f "$rt_stamp" ] && read -r rt_folder <"$rt_stamp"; then
  [ "$rt_folder" != anywhere ] && [ "$rt_folder" != "$PWD" ] || exit "$rt_done_before"
fi
rt_before=$(rt_sum_of_folder)
if (eval "$rt_activate") >/dev/null 2>&1; then eval "$rt_activate"; fi
sh -ec "$rt_commands" </dev/null 9>&- || {
  rt_status=$?
  [ $rt_status != "$rt_done_before" ] || rt_status=1
  exit $rt_status
}
rt_folder=anywhere
rt_after=$(rt_sum_of_folder)
[ "$rt_before" ] && [ "$rt_after" = "$rt_before" ] || rt_folder=$PWD
printf '%s\n' "$rt_folder" >"$rt_stamp"
