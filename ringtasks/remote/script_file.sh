# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Writes the text of a script to a file ($ringtasks_script), which is removed at the end.
#
# parameters: ringtasks_content

ringtasks_script=$(mktemp "${TMPDIR:-/tmp}/ringtasks.XXXXXX") || exit 1
# A trap removes the file, so the exit status is the script's. Without traps for TERM and HUP these
# would end sh before that.
trap 'rm -f "$ringtasks_script"' EXIT
trap 'exit 143' TERM HUP
printf %s "$ringtasks_content" >"$ringtasks_script" || {
  echo "ringtasks: the script was not started: it cannot be written to ${ringtasks_script%/*}" >&2
  exit 1
}
