"""End a job and all of its processes, and verify that they are gone (``stop_job.sh``).

The job's processes are those of its group and of its session, those with its mark in their
environment (a daemon that forked twice into a session of its own keeps the mark), and all
descendants of these, with all that was seen once (``remote/processes.sh``).  They get TERM, after a
grace time KILL, and are then searched again.  The monitor gets no signal: it records the job's exit
status.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from ringtasks.common.text import names_and_more
from ringtasks.remote.answers import lines_by_name, or_none, process_id, whole
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program
from ringtasks.remote.stop_run import STILL_RUNNING, TERMINATED, unconfirmed

__all__ = ["Process", "Stopped", "is_elsewhere", "parse_stopped", "stop_job_script"]


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
    orphans: tuple[Process, ...] = ()
    """Processes that may be the job's: they began after it, and had left their session, environment
    and parent before the stop.  They were left alone."""
    is_recorded: bool = True
    """False if nothing can be written to the job's folder: it will be listed as lost."""

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
            text = f"{TERMINATED}: {_listed(self.before)}"
        else:
            text = f"{STILL_RUNNING}: {_listed(self.after)}"
        if self.before and self.orphans:
            text += f"; processes of unknown origin are not covered: {_listed(self.orphans)}"
        if self.before and not self.is_recorded:
            text += "; its folder on the host cannot be written to, so it will be listed as lost"
        if self.gpu_holders:
            text += f"; GPU memory is held by {_listed(self.gpu_holders)}"
        return text


_STOP = Program(__file__, "stop_job.sh")
_UNSEEN = unconfirmed("job's", "the host cannot list its processes")
#: Processes that a message lists.
_MAX_LISTED = 20


def stop_job_script(job_id: str, by: str, grace: float, host_id: str = "") -> str:
    """Return a script that ends the job.

    If the job was started on a host that has another name than ``host_id``, and it is not certain
    that both are one machine, the script does nothing (`is_elsewhere`).

    It prints the job's processes, those that are still there, and those that hold its GPUs.
    """
    return _STOP.render(
        rt_folder=JOBS_FOLDER,
        rt_id=job_id,
        rt_by=by,
        rt_host=f'"host": {json.dumps(host_id)}' if host_id else "",
        grace_cs=max(10, round(grace * 100)),
    )


def is_elsewhere(printed: str) -> bool:
    """Return True if the job belongs to another machine: `stop_job_script` did nothing."""
    return printed == "elsewhere\n"


def parse_stopped(printed: str) -> Stopped:
    """Parse the output of `stop_job_script`.

    :raises AnswerError: a process of the job has no process id.
    """
    rows = lines_by_name(printed)
    before, after, orphans = (
        tuple(map(_process, rows[kind])) for kind in ("before", "after", "orphan")
    )
    holders = tuple(_holders(rows["holds"], rows["reserved"], before + orphans))
    error = None if rows["looked"] else _UNSEEN
    return Stopped(before, after, holders, error, orphans, not rows["unrecorded"])


def _process(row: str) -> Process:
    pid, _, command = row.partition(" ")
    return Process(process_id(pid), command)


def _holders(holds: list[str], reserved: list[str], known: tuple[Process, ...]) -> list[Process]:
    """Return the processes on the job's GPUs, and those that are known on any GPU."""
    names = {process.pid: process.command for process in known}
    found = []
    for row in holds:
        uuid, text, memory, *_ = [*(cell.strip() for cell in row.split(",")), "", "", ""]
        pid = or_none(process_id, text)
        if pid is not None and (uuid in reserved or pid in names):
            name = names.get(pid, "of unknown origin")
            found.append(Process(pid, name, or_none(whole, memory)))
    return found


def _listed(processes: tuple[Process, ...]) -> str:
    return names_and_more([f"{own.pid} ({own.command})" for own in processes], _MAX_LISTED)
