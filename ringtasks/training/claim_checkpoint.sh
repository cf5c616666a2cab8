# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Makes a checkpoint folder a run's own: the content of another run, or of none, is set aside, and
# the folder that holds it is printed.
#
# parameters: parent name run label keeps_own ended owned
#   parent     the folder that holds the checkpoint folder
#   name       of the checkpoint folder
#   label      ends the name of the folder for the content of others
#   keeps_own  "true": the run's own content stays
#   ended      a run that has ended
#   owned      the exit status if the folder is that of another run, which is printed

mkdir -p "$parent" && cd "$parent" || exit
owner=
note=.$name.ringtasks-run
# Another user of the folder may have put a FIFO there, or a link to another file: neither is opened.
[ -L "$note" ] || [ ! -f "$note" ] || read -r owner <"$note" || :
if [ "$owner" ] && [ "$owner" != "$run" ] && [ "$owner" != "$ended" ]; then
  printf '%s\n' "$owner"
  exit "$owned"
fi
if "$keeps_own" && [ "$owner" = "$run" ]; then exit 0; fi
# A link to a folder stays a link: its target is moved, on its own disk, and made anew.
if [ -L "$name" ] && [ -d "$name/" ]; then
  place=$(cd -P "./$name/" && pwd -P) || exit
elif [ -e "$name" ] || [ -L "$name" ]; then
  place=$(pwd -P)/$name
else
  place=
fi
if [ -d "$place" ]; then
  held=$(ls -A "$place") || exit
  [ "$held" ] || place=
fi
if [ "$place" ]; then
  # Hidden, so that a program that looks for "checkpoint*" does not find it.
  aside=${place%/*}/.${place##*/}.before-$label
  [ ! -e "$aside" ] || {
    echo "$aside is in the way" >&2
    exit 1
  }
  mv "$place" "$aside" || exit
  [ ! -L "$name" ] || [ -e "$name" ] || mkdir "$place" || exit
  printf '%s\n' "$aside"
fi
new=$note.$$
rm -f "$new" && set -C && printf '%s\n' "$run" >"$new" && mv -f "$new" "$note"
