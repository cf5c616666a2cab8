# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Finds rsync ($rsync), enters the folder to copy to or from, and prints the symbolic links on stderr
# whose places the source's folders take: rsync does not report that it replaces them.
#
# parameters: target mode missing mark partial resumes folders...
#   mode     "push": the target is made; "dry": it may be missing; "pull"
#   missing  the message if the host has no rsync
#   mark     begins the report of a link
#   partial  the name of rsync's folders for unfinished files
#   resumes  not empty: rsync is to use them. It is set here if there is such a folder: its file is
#            resumed or removed
#   folders  at the top of the source, where links are looked for; "pull": the matches of a pattern,
#            from which "." and "..", and links that lead nowhere, are dropped

# Homebrew's is newer than macOS' own, and not on the PATH of a command over SSH.
for rsync in /opt/homebrew/bin/rsync /usr/local/bin/rsync rsync; do
  command -v "$rsync" >/dev/null 2>&1 && break
  rsync=
done
[ -n "$rsync" ] || {
  printf '%s\n' "$missing" >&2
  exit 127
}

# Also links that lead nowhere: the volume may not be mounted.
unfinished=
print_links() {
  [ $# -gt 0 ] || return 0
  # shellcheck disable=SC2016  # for the other shell
  unfinished=$(find "$@" -type d -name "$partial" -print -o -type l -exec /bin/sh -c 'for name do
    [ ! -d "$name" ] && [ -e "$name" ] ||
      printf "%s link\0%s\0%s\0" "$0" "$name" "$(readlink "$name")" >&3
  done' "$mark" {} + 3>&2 2>/dev/null </dev/null)
}

is_dropped() {
  case $1 in */. | */..) return 0 ;; esac
  [ -h "$1" ] && [ ! -e "$1" ]
}

# Since 3.1 the receiving rsync tells what makes way for another kind of file. It is asked while the
# links are looked for.
asked=
if [ "$mode" != pull ] && [ -d "$target" ]; then
  "$rsync" --debug=DEL2 --version >/dev/null 2>&1 </dev/null &
  asked=$!
fi

case $mode in
push)
  mkdir -p "$target" && cd "$target" || exit
  print_links "$@" || :
  # shellcheck disable=SC2034  # in the command after this program
  [ -z "$unfinished" ] && [ ! -d "$partial" ] || resumes=yes
  ;;
dry) (cd "$target" 2>/dev/null && print_links "$@") || : ;;
pull)
  cd "$target" || exit
  # Rebuilding a long list takes long, so only what needs it is rebuilt.
  for item; do
    is_dropped "$item" && {
      for kept; do
        shift
        is_dropped "$kept" || set -- "$@" "$kept"
      done
      break
    }
  done
  ;;
esac
# shellcheck disable=SC2034  # in the command after this program
[ -z "$asked" ] || { wait "$asked" && tells_kinds=yes; } || :
