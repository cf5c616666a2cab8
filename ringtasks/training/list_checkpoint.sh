# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints the files of the complete checkpoints in a folder, each with its identity, size and time;
# and "incomplete NAME" for a folder in it that lacks its last file, or has files that are newer: a
# program may be writing the next checkpoint over this one. For the folder itself: "overtaken".
#
# parameters: folder last_file takes_overtaken no_checkpoint
#   last_file      the file that is written last; empty: all files count as complete
#   takes_overtaken  "true": the program has ended by itself, so files may be newer
#   no_checkpoint  the exit status if there is none

[ -e "$folder" ] || exit "$no_checkpoint"
cd "$folder" || exit 1

# For GNU and BusyBox, for macOS. Whole seconds are too coarse: checkpoints of one size may follow
# each other quickly. find(1) also fails for a file that has gone meanwhile.
if stat -c %i . >/dev/null 2>&1; then format='-c%i %s %y %n'; else format='-f%i %z %Fm %N'; fi
list() {
  found=$(find "$@" -type f -exec stat "$format" {} + 2>/dev/null)
  status=$?
  [ "$found$status" != 0 ] || exit "$no_checkpoint"
  [ "$found" ] && [ $status -lt 126 ] || { echo "find(1) cannot list $folder" >&2; exit 1; }
  printf '%s\n' "$found" | sort
}

# A folder with a number in its name is written once. Some programs add files after the last one: the
# random state (Transformers before 4.36), or that of another process.
is_overtaken() {
  case $1 in *[0-9]*) return 1 ;; esac
  ! "$takes_overtaken" && [ "$(find "$1" -type f -newer "$1$last_file" 2>/dev/null)" ]
}

if [ -z "$last_file" ] || [ -s "$last_file" ]; then
  list .
  [ -z "$last_file" ] || ! is_overtaken ./ || echo overtaken
  exit
fi
set --
for inner in */ .[!.]*/; do
  if [ -s "$inner$last_file" ] && ! is_overtaken "./$inner"; then
    set -- "$@" "./$inner"
  elif [ -d "$inner" ]; then
    echo "incomplete ${inner%/}"
  fi
done
[ $# -gt 0 ] || exit "$no_checkpoint"
for file in * .[!.]*; do [ ! -f "$file" ] || set -- "$@" "./$file"; done
list "$@"
