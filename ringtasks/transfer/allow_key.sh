# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Let a key log in until stdin ends.
#
# parameters: entry blob seconds
#   entry    the key's line in authorized_keys(5); an expiry-time is put in front of its options
#   blob     the part of the line that identifies it
#   seconds  how long the key can be used to log in
#
# Every "return" has a number: in a trap, bash would use the status from before the trap.
#
# Prints "ready USER", and at the end "removed" once the line is verified to be gone. The file
# is only replaced as a whole: a full disk must not lock its owner out of the machine.
umask 077
LC_ALL=C
export LC_ALL
file=$HOME/.ssh/authorized_keys
lock=$file.ringtasks-lock
new=

refuse() {
  printf '%s\n' "$file: $1" >&2
  return 1
}

alone() {
  n=0
  until mkdir "$lock" 2>/dev/null; do
    n=$((n + 1))
    [ $n -le 100 ] || break # its holder was killed
    sleep 0.1 2>/dev/null || sleep 1
  done
  "$@"
  result=$?
  rmdir "$lock" 2>/dev/null
  return $result
}

# Mode (with a + for an access list), number of names, owner and group.
marks() {
  # shellcheck disable=SC2012 # the name comes last, and is not read
  ls -ldn "$1" | { read -r mode names owner group _ && printf '%s\n' "$mode $names $owner $group"; }
}

mode_of() { stat -c %a "$1" 2>/dev/null || stat -f %Lp "$1"; }
owner_of() { stat -c %u:%g "$1" 2>/dev/null || stat -f %u:%g "$1"; }

# Replace the file with the output of "$1".
replace() {
  new=$(mktemp "$file.XXXXXX") || return 1
  "$1" > "$new" || refuse "no copy could be written: left alone" || return 1
  if [ -e "$file" ]; then
    [ "$(owner_of "$file")" = "$(owner_of "$new")" ] || chown "$(owner_of "$file")" "$new" || return 1
    chmod "$(mode_of "$file")" "$new" || return 1
    [ "$(marks "$file")" = "$(marks "$new")" ] ||
      refuse "its owner, mode, access list or other names would be lost: left alone" || return 1
  fi
  sync "$new" 2>/dev/null || sync
  # Another process may have changed the file, or a program may not have reported a full disk.
  [ "$("$1" | cksum)" = "$(cksum < "$new")" ] ||
    refuse "its copy is not whole, or it changed meanwhile: left alone" || return 1
  mv -f "$new" "$file" || return 1
  new=
}

with_key() {
  if [ -s "$file" ]; then
    cat "$file" || return 1
    [ -z "$(tail -c 1 "$file")" ] || echo
  fi
  printf '%s\n' "$entry"
}

without_key() { sed "\\,$blob,d" "$file"; }

drop() {
  [ -e "$file" ] || return 0
  grep -qF "$blob" "$file"
  case $? in
  0) ;;
  1) return 0 ;; # it is gone
  *) return 1 ;;
  esac
  if [ -n "$is_made" ] && [ -z "$(without_key)" ]; then
    rm -f "$file"
    return $?
  fi
  lost=$(($(wc -c < "$file") - $(without_key | wc -c)))
  [ $lost -eq $(($(printf '%s\n' "$entry" | wc -c))) ] ||
    refuse "the line of $blob was changed: left alone" || return 1
  replace without_key
}

clean_up() {
  [ -z "$new" ] || rm -f "$new"
  new=
  alone drop && echo removed
  [ -z "$new" ] || rm -f "$new"
}

# sshd reads the expiry-time in its own time zone.
until=$(
  unset TZ
  at=$(($(date +%s) + seconds))
  date -d "@$at" +%Y%m%d%H%M%S 2>/dev/null || date -r "$at" +%Y%m%d%H%M%S
) || exit 1
entry="expiry-time=\"$until\",$entry"

mkdir -p "$HOME/.ssh" || exit 1
hops=0
while [ -h "$file" ] && [ $hops -lt 40 ]; do
  hops=$((hops + 1))
  to=$(readlink "$file") || exit 1
  case $to in
  /*) file=$to ;;
  *) file=${file%/*}/$to ;;
  esac
done
[ ! -h "$file" ] || refuse "its symbolic links form a loop: left alone" || exit 1
[ ! -e "$file" ] || [ -f "$file" ] || refuse "it is not a regular file: left alone" || exit 1
is_made=
[ -e "$file" ] || is_made=1

trap 'exit 1' HUP INT TERM PIPE
trap clean_up EXIT
alone replace with_key || exit 1
echo "ready $(id -un)"
cat > /dev/null
