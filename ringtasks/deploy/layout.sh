# shellcheck shell=sh
# Functions of a deploy, which run in the deploy path. See layout.py for the files there.
# include: locking.sh

mark=.ringtasks-release
content=.source-content

# Folders of releases that another tool made do not match.
is_ours() {
  case $1 in
    ????????T??????Z-*-????) return 0 ;;
  esac
  return 1
}

# Sets $target to the target of the link "current"; empty: there is none. Ends the script if it cannot
# be read.
read_current() {
  target=$(readlink current)
  [ "$target" ] || [ ! -L current ] || { echo "current: readlink(1) prints nothing" >&2; exit 1; }
}

# rename(2) over the link: GNU and BusyBox call it -T, FreeBSD and macOS -h. If mv has neither, perl
# or python3 renames: plain mv would move the new link into the folder that the old one points to.
replace() {
  mv -fT "$1" "$2" 2>/dev/null || mv -fh "$1" "$2" 2>/dev/null ||
    perl -e 'rename $ARGV[0], $ARGV[1] or exit 1' "$1" "$2" 2>/dev/null ||
    python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$1" "$2"
}

# Makes current lead to a target, by one rename.
lead_to() {
  if [ -e current ] && [ ! -L current ]; then
    echo "current: is in the way, and no symbolic link" >&2
    return 1
  fi
  [ ! -d "$1" ] || forward "$1"
  rm -f .current-new && ln -s "$1" .current-new && replace .current-new current
  [ "$(readlink current)" = "$1" ] && return 0
  echo "current: could not be switched" >&2
  return 1
}

# Moves folders out of sight, and removes them in the background.
discard() {
  for folder; do
    rm -f ".files/${folder##*/}"
    [ ! -d "$folder" ] || mv "$folder" ".trash-$$-${folder##*/}" || return 1
  done
  remove_trash
}

# The process id of the background process is in $removal.
remove_trash() {
  (trap '' HUP; exec rm -rf .trash-*) </dev/null >/dev/null 2>.prune-errors &
  removal=$!
}

# record WORDS: adds a line to the history, in a single write so that no line is torn.
record() {
  printf '%s\t%s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >> history
}

# Prints the state of the deploy path.
state() {
  read_current
  echo "current $target"
  for folder in releases/*; do
    [ ! -f "$folder/$mark" ] || echo "release ${folder#releases/}"
  done
  [ ! -f "$content" ] || echo "content $(cat "$content")"
  [ ! -L lock ] || held
  # As many lines as `records` needs.
  [ ! -f history ] || tail -n 300 history | sed 's/^/history /'
}

# The times of a release's files. A browser that has a file asks for a later one, and make compares
# with what it has built: so a file that changes gets a time, in whole seconds, later than that of
# any file before, and a file that does not change keeps its time.

# Prints such a time, in seconds.
next_time() {
  last=$(cat .source-time 2>/dev/null)
  case $last in
    '' | *[!0-9]*) last=0 ;;
  esac
  time=$(now)
  [ "$last" -lt "$time" ] || time=$((last + 1))
  echo "$time" > .source-time && echo "$time"
}

# Prints seconds as touch takes them: GNU and BusyBox have date -d, FreeBSD and macOS date -r.
stamp() {
  date -u -d "@$1" +%Y%m%d%H%M.%S 2>/dev/null || date -u -r "$1" +%Y%m%d%H%M.%S
}

# Makes `source` ready for files, and removes unfinished releases.
ready_for_files() {
  mkdir -p releases shared source || exit 1
  rm -f "$content"
  for folder in releases/*; do
    ! is_ours "${folder#releases/}" || [ -f "$folder/$mark" ] || discard "$folder" || exit 1
  done
  touch .source-begun || exit 1
}

# took_files NAME: gives the files that have arrived their time, and records the name of the whole
# content of `source`.
took_files() {
  time=$(next_time) && when=$(stamp "$time") || exit 1
  find source -type f -newer .source-begun -exec env TZ=UTC0 touch -t "$when" {} + || exit 1
  echo "$time" > .source-sent && printf '%s\n' "$1" > "$content" || exit 1
  # A file that is newer than this one was written to since.
  [ "$time" -le "$(now)" ] || TZ=UTC0 touch -t "$when" "$content"
}

# Gives a later time to each file of a release that is older than the same file of the current
# release. Only files that were sent count: those that build commands have made are left alone.
forward() {
  list=.files/${1##*/} sent=$(sed -n 's/^sent=//p' "$1/$mark" 2>/dev/null)
  # If no file got a time since this release was made, none of its files is older.
  [ -d current ] && [ -f "$list" ] && [ "$sent" != "$(cat .source-time 2>/dev/null)" ] || return 0
  time=$(next_time) && when=$(stamp "$time") || return 0
  while IFS= read -r file; do
    [ ! "current/$file" -nt "$1/$file" ] || TZ=UTC0 touch -t "$when" "$1/$file"
  done < "$list"
}

# copy_source FOLDER COPIES IS_OLD: makes a release's folder from `source`.
#   COPIES  1: copies, since a build command may write into a file; else hard links
#   IS_OLD  1: the files came with an earlier release. They are hard links to those of releases, so
#           a service may have written into one: then prints "changed" and ends the script.
copy_source() {
  folder=$1
  discard "$folder" && mkdir -p releases shared || exit 1
  # The search runs while the copy is made.
  [ "$3" != 1 ] || { find source -newer "$content" 2>&1 && echo unchanged; } |
    head -n 1 > .source-changes &
  looking=$!
  if [ "$2" = 1 ]; then cp -a source "$folder"; else cp -al source "$folder" 2>/dev/null; fi ||
    { rm -rf "$folder"; cp -pR source "$folder"; } || exit 1
  mkdir -p .files && (cd ./source && find . -type f) > ".files/${folder##*/}" || exit 1
  wait "$looking"
  if [ "$3" = 1 ] && [ "$(cat .source-changes)" != unchanged ]; then
    rm -rf "$folder"
    echo changed
    exit 0
  fi
}

# share FOLDER PATH IS_FOLDER: links a shared path into a release. If it does not exist yet, the
# copy in the first release that has it becomes the shared one.
share() {
  common=shared/$2 linked=$1/$2
  if [ ! -e "$common" ]; then
    mkdir -p "$(dirname "$common")"
    if [ -e "$linked" ]; then
      cp -pR "$linked" "$common"
    elif [ "$3" = 1 ]; then
      mkdir -p "$common"
    else
      echo "$common: is not on the host: put it there" >&2
      false
    fi || exit 1
  fi
  up=../../ rest=$2
  while [ "${rest#*/}" != "$rest" ]; do up=../$up rest=${rest#*/}; done
  mkdir -p "$(dirname "$linked")" && rm -rf "$linked" && ln -s "${up}shared/$2" "$linked" || exit 1
}

# command_in FOLDER COMMAND: runs a user's command; its output goes to stderr.
command_in() {
  (cd "./$1" && exec sh -ec "$2") </dev/null 1>&2 || exit $?
}

# mark_whole FOLDER LINE...: marks a release as whole, and describes it.
mark_whole() {
  folder=$1
  shift
  printf '%s\n' "$@" "sent=$(cat .source-sent 2>/dev/null)" > "$folder/$mark.new" &&
    mv -f "$folder/$mark.new" "$folder/$mark" || exit 1
}

# switch_to FOLDER: makes a release the current one; returns 1 if it is so already.
switch_to() {
  [ -f "$1/$mark" ] || { echo "$1: is not there, or not whole" >&2; exit 1; }
  read_current
  [ "$target" != "$1" ] || return 1
  lead_to "$1" || exit 1
}

# restart COMMAND: runs it in the current release. The output goes through a file: processes that
# the command leaves running would otherwise keep the SSH session open.
restart() {
  : > restart.log
  (cd ./current && exec sh -ec "$1") </dev/null >> restart.log 2>&1
  status=$?
  tail -c 8192 restart.log >&2
  [ $status -eq 0 ] || exit $status
}

# check COMMAND URL SECONDS STATUS...: tries until both succeed; an empty one is left out. A failure
# that differs from the one before is on stderr at once: an attempt that hangs may follow. The output
# goes through a file, as in restart.
check() {
  check_command=$1 url=$2 start=$(now) shown='' output=.check-$$
  end=$((start + $3))
  shift 3
  until try "$@" </dev/null >"$output" 2>&1; do
    failed="exit status $?, without output: $check_command" said=$(tail -n 5 "$output")
    said=${said:-$failed}
    [ "$said" = "$shown" ] || printf '%s\n' "$said" >&2
    [ "$(now)" -le "$end" ] || { rm -f "$output"; exit 1; }
    shown=$said
    sleep 0.2 2>/dev/null || sleep 1
  done
  rm -f "$output"
}

try() {
  [ -z "$check_command" ] || (cd ./current && exec sh -ec "$check_command") || return
  [ -z "$url" ] || fetch "$@"
}

# fetch STATUS...: fetches the URL; fails unless the answer has one of these statuses (204, 2xx).
# Redirects are followed, unless one of the statuses is that of a redirect. An answer has 5 s, later as
# long as the check has taken by then: a request that hangs is tried again, and a slow page succeeds.
# A subshell, since the command of the next attempt gets the host's environment.
fetch() (
  limit=$(($(now) - start)) left=$((end - $(now)))
  [ "$limit" -gt 5 ] || limit=5
  [ "$limit" -lt "$left" ] || limit=$left
  [ "$limit" -gt 0 ] || limit=1
  # A proxy in the host's environment cannot reach the host's own services. In a list, "*" has no
  # meaning for curl and Python.
  bypassed=${no_proxy:-$NO_PROXY}
  [ "$bypassed" = '*' ] || bypassed=$bypassed,127.0.0.1,localhost,::1
  export no_proxy="$bypassed"
  follow=--location
  for wanted; do
    case $wanted in 3*) follow= ;; esac
  done
  if command -v curl >/dev/null 2>&1; then
    code=$(curl -sS ${follow:+"$follow"} --max-redirs 10 -m "$limit" -o /dev/null -w '%{http_code}' \
      "$url") || return 1
  elif [ "$*" = 2xx ] && command -v wget >/dev/null 2>&1; then
    # GNU Wget would try 20 times, each for that time.
    said=$(wget -t 1 -T "$limit" -O /dev/null "$url" 2>&1) && return
    # -q would hide GNU Wget's errors, too.
    echo "$url: $(printf '%s\n' "$said" | grep . | tail -n 1)"
    return 1
  else
    code=$(python3 -c "$fetch_py" "$url" "$follow" "$limit") || return 1
  fi
  for wanted; do
    [ "$wanted" != "$code" ] && [ "$wanted" != "${code%??}xx" ] || return 0
  done
  echo "$url: HTTP status $code"
  return 1
)

fetch_py='
import sys, urllib.error, urllib.request as request
class Stay(request.HTTPRedirectHandler):
    def redirect_request(self, *_): return None
opener = request.build_opener(*([] if sys.argv[2] else [Stay]))
try: print(opener.open(sys.argv[1], timeout=int(sys.argv[3])).status)
except urllib.error.HTTPError as answer: print(answer.code)
'

# prune RELEASE...: removes releases but the current one and shortens the history. Prints a line
# "removed RELEASE" for each that is gone, and "left PATH: REASON" for what is left of one once its
# removal has ended. A longer removal goes on by itself.
prune() {
  for name; do
    read_current
    [ "$target" != "releases/$name" ] || continue
    [ ! -d "releases/$name" ] || said=$(mv "releases/$name" ".trash-$$-$name" 2>&1) || {
      echo "left releases/$name: cannot be moved: ${said##*: }"
      continue
    }
    rm -f ".files/$name"
    echo "removed $name"
  done
  remove_trash
  if [ "$(wc -l < history)" -gt 2000 ]; then
    tail -n 1000 history > .history-new && mv -f .history-new history
  fi
  tries=0
  while kill -0 "$removal" 2>/dev/null && [ $tries -lt 15 ]; do
    sleep 0.2 2>/dev/null || sleep 1
    tries=$((tries + 1))
  done
  kill -0 "$removal" 2>/dev/null && return 0
  for folder in .trash-*; do
    [ ! -e "$folder" ] ||
      echo "left $folder: $(grep -m 1 -F "$folder" .prune-errors | sed 's/.*: //')"
  done
  rm -f .prune-errors
}

# Prints the owner of a path; nothing else that stat prints is the same everywhere.
owner() {
  # shellcheck disable=SC2012  # the name of the owner stands in front of the path
  ls -ld "$1" 2>&1 | awk '{ print $3; exit }'
}

# Sets $place to the last part of a path that exists.
find_place() {
  place=$1
  while [ ! -e "$place" ] && [ "$place" != "$(dirname "$place")" ]; do
    place=$(dirname "$place")
  done
}

# Ends the script if something else is in the place of a file of ringtasks. Another user of the folder
# may have put it there: a read of a FIFO waits for ever, and a link leads to any other file. Each test
# is true of one kind of file only: what another deploy removes at this moment is none of them.
require_own_files() {
  for file in .locks/* .files/* .source-* .check-* .prune-errors .history-new history restart.log; do
    case $file in *.end) other=-f ;; *) other=-d ;; esac
    for kind in -L "$other" -p -c -b -S; do
      test "$kind" "$file" || continue
      echo "$file: is in the way, and not made by ringtasks: remove it" >&2
      exit 1
    done
  done
  case $(holder) in
    *[!0-9a-f]*) echo "lock: is in the way, and no lock of ringtasks" >&2; exit 1 ;;
  esac
}

# Changes to the deploy path; if that is not possible, ends the script with the reason.
enter() {
  cd "$1" 2>/dev/null && { require_own_files; return; }
  find_place "$1"
  if [ ! -d "$place" ]; then
    echo "$place: is not a folder" >&2
  elif [ "$place" != "$1" ] && [ -x "$place" ]; then
    echo "$1: no such folder" >&2
  else
    echo "$place: cannot be entered by $(id -un), it belongs to $(owner "$place")" >&2
  fi
  exit 1
}

# unwritable PATH PLACE: prints the obstacle if no deploy can write to PATH, of which PLACE exists.
unwritable() {
  [ ! -w "$2" ] || return 0
  user=$(id -un) whose=$(owner "$2") command="chown -R"
  [ "$1" = "$2" ] || command="install -d -o"
  if [ "$whose" = "$user" ]; then
    echo "problem path: $2: is not writable, although it belongs to $user"
  else
    echo "problem path: $2: is not writable for $user, it belongs to $whose;" \
      "as root: $command $user $1"
  fi
}

# probe ROOT WRITES NEEDS_URL NAME...: prints a line for each obstacle to a deploy, then the state.
#   WRITES  0: the state is only read, so that ROOT need not be writable
#   NAME    shared files that have to exist
probe() {
  root=$1 writes=$2 needs_url=$3
  shift 3
  find_place "$root"
  if [ ! -d "$place" ]; then
    echo "problem path: $place: is not a folder"
  elif [ "$writes" = 1 ]; then
    unwritable "$root" "$place"
  fi
  echo "disk $(df -Pk "$place" 2>/dev/null | tail -n 1)"
  for name; do
    [ -e "$root/shared/$name" ] || echo "lacks $name"
  done
  [ "$needs_url" != 1 ] || command -v curl >/dev/null 2>&1 || command -v wget >/dev/null 2>&1 ||
    command -v python3 >/dev/null 2>&1 || echo "problem check_url: no curl, wget or python3 is there"
  # A path that cannot be entered is not one without releases.
  [ -d "$root" ] || { [ -d "$place" ] && [ ! -x "$place" ]; } || exit 0
  enter "$root"
  for name in .files .locks history releases source; do
    [ "$writes" != 1 ] || [ ! -e "$name" ] || unwritable "$root/$name" "$root/$name"
  done
  [ ! -e current ] || [ -L current ] || echo "problem current: is in the way, and no symbolic link"
  state
}
