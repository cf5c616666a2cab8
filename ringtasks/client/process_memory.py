"""The memory of a process and its descendants, from the output of ``ps``.  Pure.

Linux, macOS, FreeBSD and BusyBox agree on ``-o pid,ppid,stat,rss,comm``, and on a ``stat`` that
starts with Z for a zombie; they differ in the ``comm`` of a zombie, and in whether it is a path.
BusyBox knows neither ``-A`` nor ``-w``, prints ``12m`` for 12 MiB and more, has blanks within
``stat`` (so ``rss`` follows it), and may have been built without ``-o``.  Many containers have no
``ps`` at all: /proc is read instead (proc(5)).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ringtasks.common.light_typing import NamedTuple
from ringtasks.remote.answers import decimal, or_none, whole

__all__ = ["PS_COMMAND", "memory_of"]

# "-ww": macOS cuts its lines at 79 characters. /proc has each status as lines of "Name:\tvalue";
# grep(1) fails if a process ends meanwhile.
PS_COMMAND = (
    "ps -A -ww -o pid,ppid,stat,rss,comm 2>/dev/null || "
    "ps -o pid,ppid,stat,rss,comm 2>/dev/null || { "
    "grep -hE '^(Name|State|Pid|PPid|VmRSS):' /proc/[0-9]*/status 2>/dev/null; true; }"
)

_LINE = re.compile(
    r"\s*([0-9]{1,10})\s+([0-9]{1,10})\s+(\D{1,20}?)\s+([0-9]{1,15}(?:\.[0-9]{1,5})?)([kmgt]?)(?:\s+(.*))?$",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^(Name|State|Pid|PPid|VmRSS):[ \t]*(.*)$", re.MULTILINE)
_KILOBYTES = {"": 1, "k": 1, "m": 1024, "g": 1024**2, "t": 1024**3}


class _MeasuredProcess(NamedTuple):
    pid: int
    parent: int
    state: str
    resident_kilobytes: float
    command: str


def memory_of(pid: int, ps_output: str) -> tuple[float, str] | None:
    """Return (resident megabytes of ``pid`` and its descendants, its command's name).

    None if the process is gone. A megabyte is 1024 × 1024 bytes. Shared pages count once for each
    process that has them. A zombie counts as gone: it only waits for its parent to read its exit
    status.
    """
    processes = {process.pid: process for process in _parse(ps_output)}
    if pid not in processes or processes[pid].state.startswith("Z"):
        return None
    family = {pid}
    while below := {p.pid for p in processes.values() if p.parent in family} - family:
        family |= below
    total = sum(processes[member].resident_kilobytes for member in family)
    return total / 1024, _name(processes[pid].command)


def _parse(ps_output: str) -> Iterator[_MeasuredProcess]:
    if _FIELD.match(ps_output):
        yield from _parse_proc(ps_output)
        return
    for line in ps_output.split("\n"):
        found = _LINE.match(line)
        if found:
            pid, parent, state, size, unit, command = found.groups(default="")
            resident = float(size) * _KILOBYTES[unit.lower()]
            yield _MeasuredProcess(int(pid), int(parent), state, resident, command.strip())


def _parse_proc(statuses: str) -> Iterator[_MeasuredProcess]:
    """Parse the chosen lines of ``/proc/*/status``: the name is first; some have no memory."""
    for block in re.split(r"^(?=Name:)", statuses, flags=re.MULTILINE):
        known = dict(_FIELD.findall(block))
        pid, parent = (or_none(whole, known.get(name)) for name in ("Pid", "PPid"))
        if pid is None or parent is None or "State" not in known:
            continue
        resident = or_none(decimal, known.get("VmRSS", "0").partition(" ")[0]) or 0.0
        yield _MeasuredProcess(pid, parent, known["State"], resident, known.get("Name", ""))


def _name(command: str) -> str:
    """Return the command's name: macOS prints a path, Linux a name (also ``kworker/0:1``)."""
    return command.rpartition("/")[2] if command.startswith(("/", "./", "../")) else command
