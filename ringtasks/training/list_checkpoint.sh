# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints the files of the complete checkpoints in a folder, each with its identity, size and time;
# and "incomplete NAME" for a folder in it that lacks its last file.
#
# parameters: folder last_file
#   last_file  the file that is written last; empty: all files count as complete

cd "$folder" 2>/dev/null || exit 1

# For GNU and BusyBox, for macOS. Whole seconds are too coarse: checkpoints of one size may follow
# each other quickly.
list() {
  find "$@" -type f -exec stat -c '%i %s %y %n' {} + 2>/dev/null | sort | grep . ||
    find "$@" -type f -exec stat -f '%i %z %Fm %N' {} + 2>/dev/null | sort
}

if [ -z "$last_file" ] || [ -s "$last_file" ]; then
  list .
  exit
fi
set --
for inner in */ .[!.]*/; do
  if [ -s "$inner$last_file" ]; then
    set -- "$@" "./$inner"
  elif [ -d "$inner" ]; then
    echo "incomplete ${inner%/}"
  fi
done
[ $# -gt 0 ] || exit 1
for file in * .[!.]*; do [ ! -f "$file" ] || set -- "$@" "./$file"; done
list "$@"
