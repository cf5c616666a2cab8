"""End a job and all of its processes, and verify that they are gone.  Pure.

The job's processes are those of its group and of its session, those with its mark in their
environment (a daemon that forked twice into a session of its own keeps the mark), and all
descendants of these.  They get TERM, after a grace time KILL, and are then searched again.  The
keeper gets no signal: it records the job's exit status.
"""

from __future__ import annotations

from typing import NamedTuple

from ringtasks.remote.answers import or_none, process_id, whole
from ringtasks.remote.launcher import IDENTITY, JOBS_FOLDER
from ringtasks.remote.script import RUN_ID_VARIABLE, quote

from .gpus import APPS_QUERY

__all__ = ["Process", "Stopped", "parse_stopped", "stop_script"]


class Process(NamedTuple):
    """Process on the host, with the GPU memory that it holds, in MiB."""

    pid: int
    command: str
    gpu_memory_mib: int | None = None


class Stopped(NamedTuple):
    """Result of a stop: the job's processes before and after it."""

    before: tuple[Process, ...] = ()
    after: tuple[Process, ...] = ()
    """The processes that remain after KILL, for example in a blocked system call."""
    gpu_holders: tuple[Process, ...] = ()
    """The processes that still hold memory of the job's GPUs, its own or others."""
    error: str | None = None
    """The reason if the stop failed, or its result is unknown."""

    @property
    def is_gone(self) -> bool:
        """True if no process of the job is left."""
        return self.error is None and not self.after

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        if not self.before:
            text = "it was not running"
        elif self.is_gone:
            text = f"terminated (verified): {_listed(self.before)}"
        else:
            text = f"STILL RUNNING: {_listed(self.after)}"
        if self.gpu_holders:
            text += f"; GPU memory is held by {_listed(self.gpu_holders)}"
        return text


# The group and the session are the job's only while the leader is the same process: process ids are
# reused. The mark is put together at run time: under ForceCommand sshd puts this script into the
# environment, and the search would find the script itself. Each process gets TERM once: a second
# TERM makes some programs abandon their checkpoint. Zombies count as gone, since their parent may
# never reap them. Only a job that runs or waits is recorded as stopped: the end of any other job is
# recorded already, or will be, and must not be replaced.
_SCRIPT = """\
{identity}
cd "$HOME/{folder}/{job_id}" 2>/dev/null || cd / || exit 1
mark={variable}
mark=$mark={job_id}
pid_in() {{
  read -r pid rest 2>/dev/null <"$1" && rt_is_alive "$pid" $rest && echo "$pid" || echo 0
}}
leader=$(pid_in process)
read -r keeper rest 2>/dev/null <keeper || keeper=0
list() {{
  if [ -r /proc/self/stat ]; then
    grep -lsFe "$mark" /proc/[0-9]*/environ | sed "s|/proc/\\([0-9]*\\).*|marked \\1|"
    n="\\([0-9]*\\)"
    cat /proc/[0-9]*/stat 2>/dev/null |
      sed -n "s/^$n (\\(.*\\)) \\(.\\) $n $n $n .*/\\1 \\4 \\5 \\6 \\3 \\2/p"
  else
    ps -A -E -ww -o pid=,command= 2>/dev/null | grep -F "$mark" |
      sed "s/^ *\\([0-9]*\\).*/marked \\1/"
    ps -A -o pid=,ppid=,pgid=,stat=,comm= |
      sed "s/^ *\\([0-9]*\\) *\\([0-9]*\\) *\\([0-9]*\\) */\\1 \\2 \\3 0 /"
  fi
}}
mine() {{
  list | awk -v leader="$leader" -v keeper="$keeper" -v self=$$ '
    $1 == "marked" {{ mine[$2] = 1; next }}
    {{
      pids[++n] = $1; parent[$1] = $2; session[$1] = $4; state[$1] = $5
      name[$1] = substr($0, length($1 $2 $3 $4 $5) + 6)
      if (leader + 0 && ($3 == leader || $4 == leader)) mine[$1] = 1
    }}
    function is_keepers(pid) {{
      return keeper + 0 && pid != leader &&
        (pid == keeper || session[pid] == keeper || parent[pid] == keeper)
    }}
    END {{
      do {{
        grown = 0
        for (i = 1; i <= n; i++) {{
          pid = pids[i]
          if (!(pid in mine) && (parent[pid] in mine) && !is_keepers(pid)) grown = mine[pid] = 1
        }}
      }} while (grown)
      for (i = 1; i <= n; i++) {{
        pid = pids[i]
        if ((pid in mine) && state[pid] !~ /^[ZX]/ && pid != self && !is_keepers(pid))
          print pid, name[pid]
      }}
    }}'
}}
signal() {{
  mine | while read -r pid rest; do
    case $1$asked in TERM*" $pid "*) ;; *) kill -s "$1" "$pid" 2>/dev/null; echo "$pid" ;; esac
  done
}}
if [ ! -s exit_status ] && {{
  [ "$leader" != 0 ] || {{ [ ! -s process ] && [ "$(pid_in keeper)" != 0 ]; }}
}}; then echo {by} >stopped; fi
mine | sed "s/^/before /"
asked=" "
looks=0
while [ $looks -lt {looks} ]; do
  asked="$asked$(signal TERM | tr "\\n" " ")"
  [ "$(mine)" ] || break
  looks=$((looks + 1))
  sleep 0.1
done
looks=0
while [ $looks -lt 20 ] && [ "$(mine)" ]; do
  signal KILL >/dev/null
  looks=$((looks + 1))
  sleep 0.1
done
looks=0
while [ $looks -lt 50 ] && [ "$(pid_in keeper)" != 0 ]; do sleep 0.1; looks=$((looks + 1)); done
mine | sed "s/^/after /"
[ -s gpu_uuids ] && sed "s/^/reserved /" gpu_uuids
command -v nvidia-smi >/dev/null || exit 0
limit=$(command -v timeout) && limit="$limit 20"
$limit nvidia-smi {apps} |
  sed "s/^/holds /"
"""


def stop_script(job_id: str, by: str, grace: float) -> str:
    """Return a script that ends the job.

    It prints the job's processes before and after, and the processes that hold its GPUs.
    """
    return _SCRIPT.format(
        identity=IDENTITY,
        folder=JOBS_FOLDER,
        job_id=job_id,
        apps=APPS_QUERY,
        variable=RUN_ID_VARIABLE,
        by=quote(by),
        looks=max(1, round(grace / 0.1)),
    )


def parse_stopped(printed: str) -> Stopped:
    """Parse the output of `stop_script`.

    :raises AnswerError: a process of the job has no process id.
    """
    rows: dict[str, list[str]] = {"before": [], "after": [], "reserved": [], "holds": []}
    for line in printed.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind in rows:
            rows[kind].append(rest)
    before, after = (tuple(map(_process, rows[kind])) for kind in ("before", "after"))
    return Stopped(before, after, tuple(_holders(rows["holds"], rows["reserved"], before)))


def _process(row: str) -> Process:
    pid, _, command = row.partition(" ")
    return Process(process_id(pid), command)


def _holders(holds: list[str], reserved: list[str], before: tuple[Process, ...]) -> list[Process]:
    """Return the processes on the job's GPUs, and those of the job on any GPU."""
    names = {process.pid: process.command for process in before}
    found = []
    for row in holds:
        uuid, text, memory, *_ = [*(cell.strip() for cell in row.split(",")), "", "", ""]
        pid = or_none(process_id, text)
        if pid is not None and (uuid in reserved or pid in names):
            name = names.get(pid, "not of the job")
            found.append(Process(pid, name, or_none(whole, memory)))
    return found


def _listed(processes: tuple[Process, ...]) -> str:
    return ", ".join(f"{process.pid} ({process.command})" for process in processes)
