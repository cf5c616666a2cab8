# shellcheck disable=SC2154  # the parameters and included functions set variables
# Deletes the folders of jobs, and prints the ids of those that are gone.
#
# parameters: rt_folder rt_ids

# include: identity.sh
# include: machine.sh
# include: has_ended.sh

cd "$HOME/$rt_folder" || exit
# ".ID.PID" is left by a starter that ended before its job was complete. The monitor's file names the
# machine; it is written within a moment, so without it a folder of one hour has no starter.
for left in .[0-9a-f]*.*; do
  if [ ! -d "$left" ] || kill -0 "${left##*.}" 2>/dev/null; then
    continue
  elif [ -s "$left/monitor" ]; then
    ! rt_has_ended "$left" || rm -rf "$left"
  elif [ "$(find "$left" -prune -mmin +59)" ]; then
    rm -rf "$left"
  fi
done
# shellcheck disable=SC2086  # the ids
if rm -rf -- $rt_ids 2>/dev/null; then
  printf '%s\n' $rt_ids
  exit
fi
status=0
for id in $rt_ids; do
  if rm -rf "./$id"; then echo "$id"; else status=1; fi
done
exit $status
