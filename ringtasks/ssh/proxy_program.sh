# Runs a program that has stdout as its stdin too, and ends it once this shell's own stdin ends: then
# ringtasks is gone, killed perhaps, and cloudflared would wait for a silent edge.

exec 3<&0
"$@" <&1 3<&- &
program=$!
{
  read -r _ <&3
  kill -9 0
} </dev/null >/dev/null 2>&1 &
watcher=$!
exec </dev/null >/dev/null 2>&1 3<&-
wait "$program"
status=$?
kill -9 "$watcher"
exit "$status"
