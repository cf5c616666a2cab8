# shellcheck shell=sh disable=SC2154  # token is set by the script that takes or holds the lock
# The lock of a deploy path: `lock` is a symbolic link to the note of its holder, .locks/TOKEN.
# Times are seconds of the host's clock.

now() { date +%s; }
holder() { there=$(readlink lock 2>/dev/null) && echo "${there#.locks/}"; }
# Sets $there to the holder; empty: there is none. Fails if the lock exists and cannot be read: twice,
# since another deploy may have made it after the first attempt.
read_holder() {
  there=$(holder) || [ ! -L lock ] || there=$(holder) || [ ! -L lock ] || {
    echo "lock: readlink(1) prints nothing" >&2
    return 1
  }
}
told() { sed -n "s/^$2=//p" ".locks/$1" 2>/dev/null; }
expired() {
  # A note that exists and cannot be read is not that of an expired lock.
  until=$(told "$1" until) || [ ! -e ".locks/$1" ] || return 1
  [ "${until:-0}" -lt "$(now)" ]
}

# Sets $until to the time in $1 seconds; ends the script if there is no time.
set_until() {
  until=$(now)
  [ "$until" ] || { echo "lock: date(1) prints no time" >&2; exit 1; }
  until=$((until + $1))
}

# Sets the time at which this deploy's lock expires. A step and a renewal may do so at the same time.
renew() {
  sed "s/^until=.*/until=$1/" ".locks/$token" > ".locks/$token.new.$$" &&
    mv -f ".locks/$token.new.$$" ".locks/$token" && return
  rm -f ".locks/$token.new.$$"
  return 1
}

# Removes the lock of a token. The folder is a lock of its own: of two that find a lock expired,
# neither removes the new lock of the other.
drop() {
  # Left by a host that went down inside: a shell that is inside now is so for milliseconds.
  [ -z "$(find ".locks/$1.end" -prune -mmin +1 2>/dev/null)" ] || rmdir ".locks/$1.end"
  mkdir ".locks/$1.end" 2>/dev/null || return 0
  read_holder || { rmdir ".locks/$1.end"; exit 1; }
  [ "$there" != "$1" ] || rm -f lock
  rm -f ".locks/$1" ".locks/$1".new.*
  rmdir ".locks/$1.end"
}

# Prints the holder of the lock.
held() {
  echo "held token=$(holder)"
  sed 's/^/held /' ".locks/$(holder)" 2>/dev/null
  echo "held now=$(now)"
}

# acquire TOKEN SECONDS DEAD NAME LINE...: takes the lock, or prints the state and ends the script.
# NAME is that of the host, the lines are those of the note. An expired lock, and that of the token
# DEAD, is replaced. Two hosts of one deploy may have one folder, in a home that they share.
acquire() {
  token=$1 seconds=$2 dead=$3 name=$4
  shift 4
  mkdir -p .locks || exit 1
  there=$(holder)
  if [ "$there" != "$token" ]; then
    [ -z "$there" ] || { [ "$there" != "$dead" ] && ! expired "$there"; } || drop "$there"
    set_until "$seconds"
    printf '%s\n' "$@" "for=$name" "since=$(now)" "until=$until" > ".locks/$token" || exit 1
    ln -s ".locks/$token" lock 2>/dev/null
  fi
  other=$(told "$token" for)
  [ -z "$other" ] || [ "$other" = "$name" ] || {
    echo "lock: $other and $name have one folder there: deploy to one of the two" >&2
    exit 1
  }
  [ "$(holder)" = "$token" ] && return 0
  rm -f ".locks/$token"
  [ -L lock ] || echo "lock: is in the way, and no lock of ringtasks" >&2
  state
  exit 1
}

# hold TOKEN SECONDS: renews the lock; if it was lost, prints the state and ends the script.
hold() {
  token=$1
  set_until "$2"
  [ "$(holder)" = "$token" ] && renew "$until" && return
  # It may have been removed while it was renewed.
  [ "$(holder)" != "$token" ] || exit 1
  [ -L lock ] || held
  state
  exit 1
}

# Removes the lock of any deploy, and prints its holder.
unlock() {
  held
  drop "$(holder)"
  [ ! -L lock ] || { echo "lock: another deploy is removing it" >&2; exit 1; }
}

# In the background: ends all processes of this script once its lock is lost. A deploy that was
# killed does not renew its lock, and the host is not told.
guard() {
  (
    trap '' HUP TERM
    while kill -0 "$$" 2>/dev/null; do
      # A link that cannot be read is not a lost lock.
      if { read_holder && [ "$there" != "$token" ]; } || expired "$token"; then
        kill -s TERM -- "-$$"
        sleep 5
        kill -s KILL -- "-$$"
      fi
      sleep 1
    done
  ) </dev/null >/dev/null 2>&1 &
}
