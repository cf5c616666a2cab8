# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints what a transfer must know of the host: "NAME=VALUE" lines, then for each source that exists
# a NUL and "KIND=SIZE MODE TIME=PATH" (the three figures for a file only). Changes nothing.
#
# "denied" is the kind of a path that may exist where the user has no permission; "dangling" that of a
# link that leads nowhere.
#
# parameters: place above sources...
#   place    the target; "": there is none
#   above    the folder that the target is in
#   sources  paths, or what patterns match

kind() {
  if [ -d "$1" ]; then echo folder; elif [ -f "$1" ]; then echo file
  elif [ -e "$1" ]; then echo other; elif is_denied "$1"; then echo denied
  elif [ -h "$1" ]; then echo dangling; else echo nothing; fi
}

# Succeeds if it is not known whether a path exists, since a folder above it, or the one that a
# pattern is looked for in, may not be entered or read. A pattern without a match stays as it is.
is_denied() {
  said=$(ls -dL "$1" 2>&1)
  beginning=${1%%[*?[]*}
  [ "$beginning" = "$1" ] || said=$said$(ls "${beginning%/*}/" 2>&1 >/dev/null)
  case $said in *": Permission denied") ;; *) return 1 ;; esac
}

export LC_ALL=C
# openssl uses the processor's instructions, which makes it four times as fast as coreutils.
for tool in openssl sha256sum shasum; do
  command -v "$tool" >/dev/null 2>&1 && {
    echo "hasher=$tool"
    break
  }
done
if [ "$place" ]; then
  echo "kind=$(kind "$place")"
  echo "above=$(kind "$above")"
  # From the place upwards, to the first folder that exists.
  while [ ! -d "$place" ]; do
    case $place in */*) place=${place%/*} ;; *) place= ;; esac
    [ "$place" ] || place=/
  done
  echo "free=$(df -Pk "$place" 2>/dev/null | tail -n 1)"
fi
for item; do
  kind=$(kind "$item") about=
  [ "$kind" != nothing ] || continue
  # stat takes other flags on macOS.
  [ "$kind" != file ] ||
    about=$(stat -Lc '%s %a %Y' "$item" 2>/dev/null || stat -Lf '%z %Lp %m' "$item")
  printf '\0%s=%s=%s' "$kind" "$about" "$item"
done
