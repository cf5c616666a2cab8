# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Sends a file to the first address of another host that accepts it, with a key that stdin holds;
# the known hosts follow. When stdin ends, this script and its ssh end, too: ringtasks was killed.
#
# parameters: file user alias end_mark connect_timeout addresses...
#   alias      the other host's name in the known hosts
#   end_mark   the line that ends the key, and the known hosts
#   addresses  hosts, each with its port after it

umask 077
sending='' watching=''
folder=$(mktemp -d) || exit 1
# shellcheck disable=SC2086  # empty before the watch has begun
trap 'rm -rf "$folder"; kill $watching' EXIT
trap '[ -z "$sending" ] || kill "$sending"; exit 1' HUP INT TERM
for name in key known; do
  while IFS= read -r line && [ "$line" != "$end_mark" ]; do
    printf '%s\n' "$line"
  done >"$folder/$name"
done
own=$(exec sh -c 'echo "$PPID"')
exec 3<&0
{
  read -r _ <&3
  kill -s TERM "$own"
} >/dev/null 2>&1 &
watching=$!
while [ $# -gt 1 ]; do
  ssh -F none -i "$folder/key" -o "UserKnownHostsFile=$folder/known" -o BatchMode=yes \
    -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o "HostKeyAlias=$alias" \
    -o "ConnectTimeout=$connect_timeout" -o LogLevel=ERROR \
    -l "$user" -p "$2" "$1" <"$file" >/dev/null 3<&- &
  sending=$!
  wait "$sending" && exit 0
  shift 2
done
exit 1
