"""The table of ``inv jobs``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ringtasks.common.durations import ago, lasting
from ringtasks.output.tables import shortened, table

if TYPE_CHECKING:
    from ringtasks.jobs import HostJobs, JobStatus

__all__ = ["clock", "is_recent", "out_of_reach", "show_jobs", "unreached"]

#: Jobs that ended within this time are shown without --all (one day).
RECENT_SECONDS = 86400.0
_COMMAND_WIDTH = 60  # characters of a command in the table


def show_jobs(shown: Iterable[JobStatus]) -> None:
    """Print the jobs as a table."""
    table(
        ["job", "name", "host", "state", "started", "ran", "gpus", "owner", "command"],
        [
            (
                job.id[:8],
                job.name or "",
                job.host_id,
                _state(job),
                ago(job.started_at, job.asked_at),
                lasting(job.seconds),
                ",".join(map(str, job.gpus)),
                job.by,
                shortened(" ".join(job.command.split()), _COMMAND_WIDTH),
            )
            for job in shown
        ],
        cut=["command"],
        optional=["gpus", "started", "ran", "owner", "name"],
    )


def _state(job: JobStatus) -> str:
    if job.since is not None:
        return f"unknown since {clock(job.since)}"
    return job.describe()


def unreached(own: HostJobs) -> str:
    """Return the message for a host that could not be asked."""
    since = min((job.since for job in own.jobs if job.since is not None), default=None)
    known = f" (last answer at {clock(since)})" if since is not None else ""
    reason = (own.error or "").removeprefix(f"{own.host_id}: ")
    return f"{own.host_id}: its jobs are unknown{known}: {reason}"


def out_of_reach(job: JobStatus, reason: str) -> str:
    """Return the message for a job whose host was not reached: the local record of it."""
    label = f"job {job.id}" + (f" ({job.name})" if job.name else "")
    at_last = (
        "" if job.since is None else f"; at its last answer, {clock(job.since)}, it had not ended"
    )
    return f"{label} on {job.host_id}{at_last}; its log is on the host ({job.log_file})\n{reason}"


def clock(at: float) -> str:
    """Return a time of this machine's clock; with the date, if it is not of the last day."""
    shape = "%H:%M" if time.time() - at < RECENT_SECONDS else "%Y-%m-%d %H:%M"
    return time.strftime(shape, time.localtime(at))


def is_recent(job: JobStatus) -> bool:
    """Return whether a job is shown without ``--all``."""
    end = job.ended_at or job.started_at
    if not job.is_ended or end is None or job.asked_at is None:
        return True
    return job.asked_at - end < RECENT_SECONDS
