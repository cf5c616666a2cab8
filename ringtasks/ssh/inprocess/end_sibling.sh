# Ends the one other session of this connection; exit status 1: there is none, or several, or it did
# not end.
#
# $PPID is sshd, since the login shell is replaced by this one. The group gets TERM, after 2 s KILL.

count=0
for folder in /proc/[0-9]*; do
  stat=$(cat "$folder/stat" 2>/dev/null) || continue
  # shellcheck disable=SC2086 # the fields after the name are words
  set -- ${stat##*) }
  [ "$2" = "$PPID" ] && [ "${folder#/proc/}" != $$ ] || continue
  count=$((count + 1)) group=${folder#/proc/}
done
[ $count = 1 ] || exit 1
kill -s TERM -- "-$group"
looks=0
while kill -s 0 -- "-$group" 2>/dev/null; do
  looks=$((looks + 1))
  [ $looks -lt 20 ] || kill -s KILL -- "-$group"
  [ $looks -lt 40 ] || exit 1
  sleep 0.1 2>/dev/null || sleep 1
done
