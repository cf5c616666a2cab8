"""The memory of a process and its descendants, from what ``ps`` prints.  Pure.

Linux, macOS and BusyBox agree on ``-o pid,ppid,rss,comm``; BusyBox knows no ``-A`` and shortens
large numbers (``12m``, ``1.5g``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["PS_COMMAND", "memory_of"]

PS_COMMAND = "ps -A -o pid,ppid,rss,comm 2>/dev/null || ps -o pid,ppid,rss,comm"

_LINE = re.compile(r"\s*(\d+)\s+(\d+)\s+([\d.]+)([kmgt]?)\s+(.*)", re.IGNORECASE)
_KILOBYTES = {"": 1, "k": 1, "m": 1024, "g": 1024**2, "t": 1024**3}


class _Process(NamedTuple):
    pid: int
    parent: int
    resident_kilobytes: float
    command: str


def memory_of(pid: int, ps_output: str) -> tuple[float, str] | None:
    """(resident megabytes of ``pid`` and its descendants, its command's name); None: it is gone.

    A megabyte is 1024 × 1024 bytes. Shared pages count once for each process that has them.
    """
    processes = {process.pid: process for process in _parse(ps_output)}
    if pid not in processes or "<defunct>" in processes[pid].command:
        return None
    family = {pid}
    grown = True
    while grown:
        below = {p.pid for p in processes.values() if p.parent in family} - family
        family |= below
        grown = bool(below)
    total = sum(processes[member].resident_kilobytes for member in family)
    return total / 1024, processes[pid].command.rpartition("/")[2]


def _parse(ps_output: str) -> Iterator[_Process]:
    for line in ps_output.splitlines():
        found = _LINE.match(line)
        if found:
            pid, parent, size, unit, command = found.groups()
            yield _Process(
                int(pid), int(parent), float(size) * _KILOBYTES[unit.lower()], command.strip()
            )
