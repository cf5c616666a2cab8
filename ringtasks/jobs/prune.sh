# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Deletes the folders of jobs.
#
# parameters: rt_folder rt_ids
cd "$HOME/$rt_folder" || exit
# ".ID.PID" is left by a starter that ended before its job was complete.
for left in .[0-9a-f]*.*; do
  [ -d "$left" ] && ! kill -0 "${left##*.}" 2>/dev/null && rm -rf "$left"
done
for id in $rt_ids; do rm -rf "./$id"; done
