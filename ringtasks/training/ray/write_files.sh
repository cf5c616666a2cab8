# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Writes a cluster's files: its token ($TOKEN), the program that runs Ray, and the path of the
# folder for Ray's sessions, which is made here: Ray would give all users of the host access to it.
#
# parameters: folder temp program name
#   temp     the folder for the sessions
#   program  the text of the program
#   name     its name in the folder

umask 077
mkdir -p "$folder" "${temp%/*}" || exit
# Any user may write to /tmp: a folder that is there already may be another user's.
# shellcheck disable=SC3067  # all supported shells have test -O
if ! said=$(mkdir "$temp" 2>&1); then
  if [ ! -e "$temp" ] && [ ! -h "$temp" ]; then
    echo "$said" >&2
    exit 1
  elif [ -h "$temp" ] || [ ! -d "$temp" ] || [ ! -O "$temp" ]; then
    echo "$temp is no folder of this user: remove it, or start the cluster again: its name differs" >&2
    exit 1
  fi
  chmod 700 "$temp" || exit
fi
printf %s "$temp" >"$folder/temp" && printf %s "$TOKEN" >"$folder/token" &&
  printf %s "$program" >"$folder/$name"
