# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Finds the part of a version of a file, or makes it; parts of other versions are removed. Prints
# "CHECK NAME", and the line of "ls -ln" for the file "part" if it exists.
#
# parameters: folder name check known beginning version new
#   known      the part's folder; empty: it is looked for
#   beginning  of the name of each part of the file
#   version    the beginning for this version
#   new        the name of a new one

# include: part.sh

name=$known
if [ -z "$name" ]; then
  cd -P "$folder" || exit 1
  for old in "$beginning"*; do
    { into "$old" && closed; } || continue
    case $old in
    "$version"*) [ -n "$name" ] || {
      name=$old
      continue
    } ;;
    esac
    rm -f part && cd -P .. && rmdir "./$old"
  done
fi
if [ -z "$name" ]; then
  cd -P "$folder" || exit 1
  name=$new
  mkdir "./$name" && into "$name" || exit 1
  closed || check=true
fi
enter || exit 1
printf '%s %s\n' "$check" "$name"
[ -f part ] && LS_BLOCK_SIZE=1 ls -ln part
true
