# shellcheck disable=SC2154  # the parameters are assigned before the first line
# Ends a run and prints the process ids that are still there, one a line.  Safe to repeat.
#
# parameters: group run_id grace_cs with_sudo
#   group      the process id of the run's shell, which leads its process group
#   run_id     what its processes bear in their environment
#   grace_cs   hundredths of a second between TERM and KILL
#   with_sudo  1: use sudo for a process that may not be signalled otherwise
#
# A process belongs to the run by its group, its session, its mark or its parent.  What was found
# once is remembered by process id and start time, and looked for again by these: it may have left
# its group, its session and its environment, and its parent may have gone, in the meantime.
# Zombies count as gone: inside a container their parent may never reap them.

# Put together here: under ForceCommand sshd shows this whole text in the environment, and it would
# find itself.
mark=RINGTASKS_RUN_ID
mark=$mark=$run_id
known=

# Prints "PID PARENT GROUP SESSION START" of each process, and "marked PID".  One pass reads each
# file once.
processes() {
  if [ -r /proc/self/stat ]; then
    grep -lsFe "$mark" /proc/[0-9]*/environ | sed 's|/proc/\([0-9]*\).*|marked \1|'
    cat /proc/[0-9]*/stat 2>/dev/null |
      awk '$1 ~ /^[0-9]+$/ { pid = $1; sub(/^.*\) /, ""); if ($1 !~ /^[ZX]/) print pid, $2, $3, $4, $20 }'
  else
    TZ=UTC LC_ALL=C ps -A -o pid= -o ppid= -o pgid= -o stat= -o lstart= |
      awk '$4 !~ /^Z/ { print $1, $2, $3, 0, $5 "_" $6 "_" $7 "_" $8 "_" $9 }'
  fi
}

# Sets $left to the living processes of the run, and adds them to $known.
look() {
  found=$(processes | awk -v group="$group" -v self=$$ -v known="$known" '
    BEGIN { n = split(known, parts, " "); for (i = 1; i <= n; i++) was[parts[i]] = 1 }
    $1 == "marked" { mine[$2] = 1; next }
    {
      pids[++count] = $1; parent[$1] = $2; start[$1] = $5
      if ($3 == group || $4 == group || (($1 ":" $5) in was)) mine[$1] = 1
    }
    END {
      do {
        grown = 0
        for (i = 1; i <= count; i++) {
          pid = pids[i]
          if (!(pid in mine) && (parent[pid] in mine) && pid != self) grown = mine[pid] = 1
        }
      } while (grown)
      for (i = 1; i <= count; i++) {
        pid = pids[i]
        if ((pid in mine) && pid != self && parent[pid] != self) print pid ":" start[pid]
      }
    }')
  left=
  for one in $found; do
    left="$left ${one%%:*}"
    case " $known " in *" $one "*) ;; *) known="$known $one" ;; esac
  done
}

# Hundredths of a second, by a clock that is never set.
now() {
  if read -r up rest 2>/dev/null </proc/uptime; then
    now=${up%.*}${up#*.}
  else
    now=$(($(date +%s) * 100))
  fi
}

signal() {
  for pid in $left; do
    kill -s "$1" "$pid" 2>/dev/null ||
      { [ "$with_sudo" = 1 ] && sudo -n kill -s "$1" "$pid" 2>/dev/null; }
  done
}

look
signal TERM
now
end=$((now + grace_cs))
while [ -n "$left" ] && [ "$now" -lt "$end" ]; do
  sleep 0.1
  look
  now
done

# A stopped process forks no more: stop all until none is new, then kill them.
now
end=$((now + 200))
while [ -n "$left" ] && [ "$now" -lt "$end" ]; do
  before=
  while [ "$before" != "$left" ] && [ "$now" -lt "$end" ]; do
    before=$left
    signal STOP
    look
    now
  done
  signal KILL
  sleep 0.05
  look
  now
done
for pid in $left; do echo "$pid"; done
