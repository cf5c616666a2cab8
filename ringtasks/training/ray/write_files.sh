# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Writes a cluster's files: its token ($TOKEN), the program that runs Ray, and the path of the
# folder for Ray's sessions, which is made here: Ray would give all users of the host access to it.
#
# parameters: folder temp program name
#   temp     the folder for the sessions
#   program  the text of the program
#   name     its name in the folder

umask 077 && mkdir -p "$folder" "$temp" && printf %s "$TOKEN" >"$folder/token" &&
  printf %s "$program" >"$folder/$name" && printf %s "$temp" >"$folder/temp"
