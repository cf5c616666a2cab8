# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Prints the log of a job: first "ringtasks-offset:N", the offset at which the rest begins.
#
# If login files have sent stderr to stdout, nothing but the log is printed after the first line. Else
# the last line on stderr is "ringtasks-at:N", the offset at which it ended: a tool that fails within a
# pipe is not noticed otherwise.
#
# Exits with 0 if the job has ended and its log is complete, with $goes_on if it is running or its
# log was truncated, and with $no_log if there is no log; "ringtasks-gone:FILE" names a file on stderr
# that was removed or renamed; "ringtasks-moved:FILE" the file that the command writes to instead.
#
# parameters: rt_folder rt_id offset tail since seconds_cs goes_on no_log
#   offset, tail, since  where to begin: at this offset; with so many of the last lines; with what was
#               written since this time. "" for those that do not count
#   seconds_cs  hundredths of a second for which it follows the log of a running job
# environment: rt_known, the bytes before the offset, three octal digits each; unset: not known

# include: identity.sh
# include: machine.sh
# include: clock.sh
# include: has_ended.sh

# The bytes at the end of the log in which the last lines are searched.
window=4194304

# A folder that cannot be entered may have a log.
cd "$HOME/$rt_folder/$rt_id" 2>/dev/null || {
  cd "$HOME/$rt_folder" || exit 1
  [ -e "$rt_id" ] || exit "$no_log"
  cd "./$rt_id" || exit 1
}
[ -e log ] || {
  [ ! -L log ] || echo "ringtasks-gone:$(readlink log)" >&2
  exit "$no_log"
}

# Sets $size and $inode. "ls -n" gets it without reading the file; wc(1) of BusyBox would read it. GNU ls counts
# in the unit of BLOCK_SIZE, unless LS_BLOCK_SIZE is set.
measure() {
  size=0 inode=
  [ ! -d log ] || { echo "ringtasks: the log is a folder" >&2; exit 1; }
  [ -f log ] || return 0 # a FIFO or a device, as /dev/null
  # shellcheck disable=SC2012  # stat(1) is not in POSIX
  size=$(LS_BLOCK_SIZE=1 ls -ilnL log | { read -r number _ _ _ _ bytes _ && echo "$bytes $number"; })
  inode=${size#* } size=${size% *}
  [ "$size" ] || { echo "ringtasks: the size of the log cannot be read" >&2; exit 1; }
}

# Succeeds if the bytes before $at are others than $rt_known: the log was truncated, and has grown
# since. Those before $first were discarded. If od(1) does not print them, nothing is known.
is_other() {
  count=$((${#rt_known} / 3))
  [ "$rt_known" ] && [ $((at - count)) -ge "$first" ] || return
  bytes=$(dd if=log bs=1 skip=$((at - count)) count=$count 2>/dev/null | od -An -v -to1 | tr -d ' \n')
  [ "$bytes" ] && [ "$bytes" != "$rt_known" ]
}

measure
# The bytes before log.first were discarded for the size limit.
rt_read log.first && first=$rt_line || first=0
if [ "$offset" ]; then
  at=$offset
  # The log was truncated (copytruncate of logrotate): begin anew, which the first line tells.
  if [ "$at" -gt "$size" ] || is_other; then at=0; fi
elif [ "$tail" ]; then
  part=$((size < window ? size : window))
  bytes=$(tail -c +$((size - part + 1)) log | head -c $part | tail -n "$tail" | wc -c)
  at=$((size - bytes))
  [ "$at" -lt "$size" ] || [ "$part" = 0 ] || [ "$tail" = 0 ] || exit 1
elif [ "$since" ]; then
  at=0
  [ ! -f times ] ||
    at=$(awk -v since="$since" '$1 < since { from = $2 } END { print from + 0 }' times 2>/dev/null ||
      echo 0)
else
  at=0
fi
[ "$at" -ge "$first" ] || at=$first
echo "ringtasks-offset:$at"

# shellcheck disable=SC3013  # -ef: dash, bash, zsh and BusyBox have it
leave() {
  [ /dev/fd/1 -ef /dev/fd/2 ] || echo "ringtasks-at:$at" >&2
  exit "$1"
}

# Tells if the log was replaced by another file while the command has the old one as its stdout.
# shellcheck disable=SC3013
check_writer() {
  if [ "/proc/$writer/fd/1" -ef log ]; then
    written=$inode
  elif [ "$written" ] && [ "$written" != "$inode" ] && [ -e "/proc/$writer/fd/1" ]; then
    echo "ringtasks-moved:$(readlink "/proc/$writer/fd/1")" >&2
    leave "$goes_on"
  fi
}

# The job's end is checked before the log is read, so that all that it wrote is printed.
now
end=$((now + seconds_cs))
rt_read process && writer=${rt_line%% *} || writer=-
written=
while :; do
  status=$goes_on
  ! rt_has_ended . || status=0
  measure
  check_writer
  [ "$size" -ge "$at" ] || leave "$goes_on"
  if [ "$size" -gt "$at" ]; then
    tail -c +$((at + 1)) log | head -c $((size - at)) || exit 1
    at=$size
  fi
  [ "$status" != 0 ] || leave 0
  now
  [ "$now" -lt "$end" ] || leave "$goes_on"
  pause 0.2 || leave "$goes_on"
done
