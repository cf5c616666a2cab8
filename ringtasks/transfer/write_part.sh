# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Writes stdin to a part, from the given block on. dd writes at the given offset, so that a dd that
# is left over from a lost link, and has not noticed the loss yet, writes the same bytes to the same
# places.
#
# parameters: folder name check block_bytes blocks refusal
#   refusal  the message if the part is gone

# include: part.sh

enter || {
  printf '%s\n' "$refusal" >&2
  exit 1
}
exec dd of=part bs="$block_bytes" seek="$blocks" conv=notrunc
