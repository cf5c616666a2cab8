"""Ending a job and everything that came of it, with evidence.  Pure.

The job's processes are those of its group and of its session, those that bear its mark in their
environment (a daemon that forked twice and left for a session of its own keeps that), and all that
descend from these.  They are asked to end (TERM), killed after a grace time (KILL), and looked for
again.  The keeper is left alone: it writes down how the job ended.
"""

from __future__ import annotations

from typing import NamedTuple

from ringtasks.remote.launcher import IDENTITY, JOBS_FOLDER
from ringtasks.remote.script import RUN_ID_VARIABLE, quote

from .gpus import APPS_QUERY

__all__ = ["Process", "Stopped", "parse_stopped", "stop_script"]


class Process(NamedTuple):
    """A process on the host, and the GPU memory that it holds there, in MiB."""

    pid: int
    command: str
    gpu_memory_mib: int | None = None


class Stopped(NamedTuple):
    """What a stop has found and left."""

    before: tuple[Process, ...] = ()
    after: tuple[Process, ...] = ()
    """What is still there, in spite of KILL: in a system call that does not end, say."""
    gpu_holders: tuple[Process, ...] = ()
    """Who still holds memory of the job's GPUs, whether the job's own or somebody else's."""
    error: str | None = None
    """Why it could not be done, or not be found out."""

    @property
    def is_gone(self) -> bool:
        """Nothing of the job was left."""
        return self.error is None and not self.after

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        if not self.before:
            text = "nothing of it was running"
        elif self.is_gone:
            text = f"ended and seen to be gone: {_listed(self.before)}"
        else:
            text = f"STILL RUNNING: {_listed(self.after)}"
        if self.gpu_holders:
            text += f"; GPU memory is held by {_listed(self.gpu_holders)}"
        return text


# The group and the session are the job's only while the leader is the process that it was: a
# process id comes back. The mark is put together here: under ForceCommand sshd shows this script in
# the environment, and it would find itself. Each process is asked once: a second TERM makes some
# programs give up their checkpoint. Zombies count as gone: nobody may reap them. Only a job that
# runs or waits is noted as stopped: how another one ended is known, or will be, and stays so.
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
    """What ends the job and prints what was there before and after, and who holds its GPUs."""
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
    """What a stop script has printed."""
    rows: dict[str, list[str]] = {"before": [], "after": [], "reserved": [], "holds": []}
    for line in printed.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind in rows:
            rows[kind].append(rest)
    before, after = (tuple(map(_process, rows[kind])) for kind in ("before", "after"))
    return Stopped(before, after, tuple(_holders(rows["holds"], rows["reserved"], before)))


def _process(row: str) -> Process:
    pid, _, command = row.partition(" ")
    return Process(int(pid) if pid.isdecimal() else 0, command)


def _holders(holds: list[str], reserved: list[str], before: tuple[Process, ...]) -> list[Process]:
    """Whoever is on the job's GPUs, and what there was of the job on any."""
    names = {process.pid: process.command for process in before}
    found = []
    for row in holds:
        uuid, pid, memory, *_ = [*(cell.strip() for cell in row.split(",")), "", "", ""]
        if pid.isdecimal() and (uuid in reserved or int(pid) in names):
            name = names.get(int(pid), "not of the job")
            found.append(Process(int(pid), name, int(memory) if memory.isdecimal() else None))
    return found


def _listed(processes: tuple[Process, ...]) -> str:
    return ", ".join(f"{process.pid} ({process.command})" for process in processes)
