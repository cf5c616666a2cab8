# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Removes a cluster's files. The folder with the token is the last one: while it is there, parts of
# the cluster may be left.
#
# parameters: folder

if [ -f "$folder/temp" ]; then rm -rf "$(cat "$folder/temp")" || exit; fi
rm -rf "$folder"
[ ! -e "$folder" ]
