# shellcheck disable=SC2154  # the program that includes this assigns the parameters
# Functions that find and end a set of processes.
#
# A process belongs to the set by its group, its session, its mark or its parent.  What was found
# once is remembered by process id and start time, and looked for again by these: it may have left
# its group, its session and its environment, and its parent may have gone, in the meantime.
# Zombies count as gone: inside a container their parent may never reap them.
#
#   $group      a process that leads the group and the session of the set; it is in the set itself,
#               since some servers start programs without a session (Dropbear); "": none
#   $latest     the start time of $group, and
#   $ago        the clock ticks by which it is before this shell's, at least; "": not known.  If the
#               process with this id began later, it has got the id since then
#   $mark       NAME=VALUE that the processes have in their environment
#   $since      the start time of the first process of the set: no earlier one has the mark; "": that
#               of $group if it runs, else not known
#   $spared     a process that is left alone, with its session and its children; "": none
#   $with_sudo  1: use sudo for a process that may not be signalled otherwise
#
# The program sets $group and $mark, and after its line that includes this file the others that it
# knows.
latest=
ago=
since=
spared=

# The processes of the set that were seen, and those that are running: "PID:START NAME" lines.
seen=
found=
# The process ids of those that are running, with a space before each.
left=
# All processes, as of the last look.
rows=
# 1: the last look failed, for example since no process could be started; then it proves nothing.
is_blind=
newline='
'

# Prints "PID PARENT GROUP SESSION START NAME" of each process, the files "/proc/PID/environ" of those
# with the mark (or "marked PID"), "searched" if marks could be found, and "listed" if each process was
# read. Only the environments of processes that are young enough are read: they cost more than all the
# rest. The names of the files go through a pipe: there may be too many for arguments. grep(1) reads
# them: if a process ends under it, it goes on, and some awks would exit. The status of xargs(1) is 0
# or 123 if it could run grep for all files.
processes() {
  # Two ids of one process: /proc is that of another process id namespace, and kill(1) takes other ids.
  ! grep -qs '^NSpid:[[:space:]]*[0-9][0-9]*[[:space:]]' /proc/self/status || return
  if [ -r /proc/self/stat ]; then
    printf '%s/stat\n' /proc/[0-9]* | {
      LC_ALL=C xargs grep -s "" /dev/null
      case $? in 0 | 123) echo listed ;; esac
    } | awk -v mark="$mark" -v group="$group" -v since="$since" \
      -v latest="$latest" -v ago="$ago" -v self=$$ '
      function add() {
        if (whole !~ /^[0-9]+ \(/) return
        pid = whole + 0; rest = whole
        sub(/^.*\) /, "", rest) # the name may have parentheses
        name = substr(whole, length(pid) + 3, length(whole) - length(rest) - length(pid) - 4)
        if (split(rest, field, " ") < 20) return
        # If the first thread has ended, the process looks like a zombie while the others run.
        if (field[1] ~ /^[ZX]/ && field[18] < 2) return
        print pid, field[2], field[3], field[4], field[20], name
        started[pid] = field[20]
      }
      $0 == "listed" { is_listed = 1; next }
      {
        colon = index($0, ":"); line = substr($0, colon + 1)
        if (file == substr($0, 1, colon)) whole = whole "?" line # and newlines
        else { add(); file = substr($0, 1, colon); whole = line }
      }
      END {
        add()
        if (latest == "" && (group in started) && (ago == "" || started[group] <= started[self] - ago))
          latest = started[group]
        if (since == "") since = latest
        fflush()
        search = "xargs grep -lsFe " mark "; case $? in 0 | 123) echo searched ;; esac"
        for (pid in started)
          if (since == "" || started[pid] + 0 >= since + 0) print "/proc/" pid "/environ" | search
        close(search)
        exit !is_listed
      }'
  else
    # shellcheck disable=SC2009  # pgrep(1) does not search the environment
    ps -A -E -ww -o pid=,command= 2>/dev/null | grep -F "$mark" | awk '{ print "marked", $1 }'
    echo searched | grep searched
    TZ=UTC0 LC_ALL=C ps -A -o pid= -o ppid= -o pgid= -o stat= -o lstart= -o comm= |
      awk '$4 !~ /^Z/ { print $1, $2, $3, 0, $5 "_" $6 "_" $7 "_" $8 "_" $9, $10 }'
  fi && echo listed
}

# Looks for the processes of the set; sets $rows, $found and $left, and adds to $seen.
# A look is complete if it saw this shell and each process, and could have found marks.
look() {
  # The last process id that was given: a later one is of a process that begins during the look.
  { read -r _ _ _ _ last </proc/loadavg; } 2>/dev/null || last=
  rows=$(processes)
  looked=$(printf '%s\nrows\n%s\n' "$seen" "$rows" | awk -v group="$group" -v latest="$latest" \
    -v ago="$ago" -v spared="$spared" -v self=$$ '
    !is_row {
      if ($0 == "rows") is_row = 1
      else if ($1 != "") { was[$1] = 1; seen[++known] = $0 }
      next
    }
    $1 == "marked" { mine[$2] = 1; next }
    $1 == "searched" || $1 == "listed" { steps++; next }
    $1 ~ /^\/proc\// { split($1, part, "/"); mine[part[3]] = 1; next }
    {
      pid = $1; pids[++count] = pid; start[pid] = $5
      parent[pid] = $2; leader[pid] = $3; session[pid] = $4
      name = $0; sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ /, "", name); names[pid] = name
      if ((pid ":" $5) in was) mine[pid] = 1
    }
    function is_left_alone(pid) {
      if (pid == self || parent[pid] == self) return 1
      return spared != "" && pid != group &&
        (pid == spared || session[pid] == spared || parent[pid] == spared)
    }
    END {
      if (latest == "" && ago != "") latest = start[self] - ago
      # The id of a group or a session that has members is not given to another process.
      if ((group in start) && latest + 0 > 0 && start[group] + 0 > latest + 0) group = ""
      for (i = 1; group != "" && i <= count; i++) {
        pid = pids[i]
        if (pid == group || leader[pid] == group || session[pid] == group) mine[pid] = 1
      }
      do {
        grown = 0
        for (i = 1; i <= count; i++) {
          pid = pids[i]
          if (!(pid in mine) && (parent[pid] in mine) && !is_left_alone(pid)) grown = mine[pid] = 1
        }
      } while (grown)
      for (i = 1; i <= count; i++) {
        pid = pids[i]
        if (!(pid in mine) || is_left_alone(pid)) continue
        left = left " " pid
        running = running "\n" pid ":" start[pid] " " names[pid]
        if (!((pid ":" start[pid]) in was)) seen[++known] = pid ":" start[pid] " " names[pid]
      }
      print left running "\nseen"
      for (i = 1; i <= known; i++) print seen[i]
      if ((self in start) && steps == 2) print "complete"
    }')
  case $looked in *"${newline}complete") is_blind= ;; *) is_blind=1 && return ;; esac
  looked=${looked%"${newline}complete"}$newline
  seen=${looked#*"${newline}seen$newline"}
  looked=${looked%%"${newline}seen$newline"*}
  left=${looked%%"$newline"*}
  found=${looked#"$left"}
  [ "$left" ] || add_newcomers || add_newcomers || add_newcomers
  [ "$group" ] || return 0
  case $newline$seen in
    *"$newline$group:"*)
      latest=$newline$seen
      latest=${latest#*"$newline$group:"}
      latest=${latest%% *}
      ;;
  esac
}

# Adds the processes with the mark that began since the last look did: a process that goes on in a
# child, and that in the next one, is never there from the beginning of a look to its end. Fails if
# there are none.
add_newcomers() {
  [ "$last" ] && [ "$seen" ] || return
  set --
  for one in /proc/[0-9]*; do
    [ "${one#/proc/}" -le "$last" ] || set -- "$@" "$one/environ"
  done
  # shellcheck disable=SC2013  # paths without spaces
  for one in $(grep -lsFe "$mark" "$@" /dev/null); do
    one=${one%/environ}
    read_fields "$one"
    # shellcheck disable=SC2086  # parent, group, session, start time
    set -- ${fields:-$$ - - -}
    case " $$ $spared " in *" $1 "* | *" $3 "*) continue ;; esac
    left="$left ${one#/proc/}"
    found=$found$newline${one#/proc/}:$4
  done
  [ "$left" ]
}

# Looks until a look is complete or the time is $end: for a moment the host may start no process.
look_until_end() {
  look
  while [ "$is_blind" ] && [ "$now" -lt "$end" ]; do
    pause 0.1
    look
    now
  done
}

# Sends the signal $1 to the processes that were found, unless another one has got the id since then.
signal() {
  separators=$IFS
  IFS=$newline
  set -f
  for one in $found; do
    one=${one%% *}
    IFS=$separators
    is_same "${one%%:*}" "${one#*:}" || continue
    kill -s "$1" "${one%%:*}" 2>/dev/null ||
      { [ "$with_sudo" = 1 ] && sudo -n kill -s "$1" "${one%%:*}" 2>/dev/null; }
  done
  IFS=$separators
  set +f
}

# Succeeds if the process $1 has the start time $2. Without /proc that is not looked up again.
is_same() {
  [ -r /proc/self/stat ] || return 0
  read_fields "/proc/$1"
  [ "$2" = "${fields##* }" ]
}

# Sets $fields to "PARENT GROUP SESSION START" of the process with the folder $1, or to nothing.
read_fields() {
  fields=
  # The name may have newlines; the fields are on the last line.
  { while read -r line; do fields=$line; done <"$1/stat"; } 2>/dev/null
  # shellcheck disable=SC2086  # the fields
  set -- ${fields##*) }
  fields=${20:+"$2 $3 $4 ${20}"}
}

# Ends the set: asks once (TERM; a second one makes some programs abandon their checkpoint), and
# after $1 hundredths of a second kills what is left. Afterwards $left is what is still there,
# unless $is_blind.
end_processes() {
  now
  end=$((now + $1))
  look_until_end
  signal TERM
  while [ -n "$left$is_blind" ] && [ "$now" -lt "$end" ]; do
    pause 0.1
    look
    now
  done
  # A stopped process forks no more: stop all until none is new, then kill them.
  now
  end=$((now + 200))
  while [ -n "$left$is_blind" ] && [ "$now" -lt "$end" ]; do
    stopped=
    while [ "$stopped" != "$left" ] && [ "$now" -lt "$end" ]; do
      stopped=$left
      signal STOP
      look
      now
    done
    signal KILL
    pause 0.05
    look
    now
  done
}
