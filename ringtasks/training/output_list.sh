# shellcheck disable=SC2154  # the programs that include it assign them
# Functions for the list of a run's output files; for other programs.
#
# $cwd   the run's folder, which is entered
# $list  the file of the list, below the home
export LC_ALL=C
list=$HOME/$list
cd "$cwd" || exit 1

# For GNU and BusyBox, for macOS: the file's identity, size and time.
if stat -L -c %i . >/dev/null 2>&1; then format='-c%i %s %y %n'; else format='-f%i %z %Fm %N'; fi

print_files() {
  find -H "$1" \( -type f -o -type l \) -exec stat -L "$format" {} + 2>/dev/null
}

# An item may be a pattern, which an unquoted variable lets the shell expand; with an empty IFS it
# is not split at spaces.
IFS=
