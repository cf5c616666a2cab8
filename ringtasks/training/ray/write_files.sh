# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Writes a cluster's files: its token ($TOKEN), and the program that runs Ray.
#
# parameters: folder program name
#   program  the text of the program
#   name     its name in the folder

umask 077 && mkdir -p "$folder" && printf %s "$TOKEN" >"$folder/token" &&
  printf %s "$program" >"$folder/$name"
