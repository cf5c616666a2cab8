"""Follow the jobs of one attempt to their end.

Each host has one job; if one does not succeed, the others are stopped, since each waits for all.
The caller's thread receives the jobs' output, in the order in which it arrives.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from ringtasks.common.fanout import each
from ringtasks.common.threads import start_thread
from ringtasks.errors import RingtasksError
from ringtasks.exit_status import UNREACHABLE
from ringtasks.jobs import Job, JobState, JobStatus

__all__ = ["decisive", "exit_status_of", "may_take_over", "see_through", "stop_all"]

#: Seconds for the state of a job whose log has ended.
_STATE_TIMEOUT = 30.0
#: Seconds to see the end of stopped processes, beyond their grace time.
_STOP_SLACK = 15.0

_STOPPED = 143  # 128 + SIGTERM


#: Output of a job, or its last status.
_Events = queue.Queue[tuple[Job, bytes | JobStatus]]


def see_through(
    jobs: Sequence[Job],
    on_log: Callable[[Job, bytes], None],
    *,
    patience: float,
    grace: float,
    tell: Callable[[str], None],
) -> dict[str, JobStatus]:
    """Return the last status of each job by its id, once all have ended or are unreachable.

    :param on_log: called from this thread.
    :param patience: seconds for which a host may be unreachable without interruption.
    :param grace: seconds that processes get to end by themselves when they are stopped.
    """
    events: _Events = queue.Queue(maxsize=256)
    for job in jobs:
        start_thread(_follow, job, patience, events, name="ringtasks-follow")
    found: dict[str, JobStatus] = {}
    stopping: threading.Thread | None = None
    while len(found) < len(jobs):
        job, event = events.get()
        if isinstance(event, bytes):
            on_log(job, event)
            continue
        found[job.id] = event
        others = [other for other in jobs if other.id not in found]
        if others and stopping is None and event.state is not JobState.SUCCEEDED:
            tell(f"{job.host}: {event.describe()}; stopping the other hosts")
            stopping = start_thread(stop_all, others, grace, tell, name="ringtasks-stop")
    if stopping is not None:  # it tells whether the processes were seen to end
        stopping.join(grace + _STOP_SLACK)
    return found


def stop_all(jobs: Sequence[Job], grace: float, tell: Callable[[str], None]) -> None:
    """Stop the jobs, all at the same time, and report each outcome."""

    def stop(job: Job) -> str:
        try:
            return str(job.stop(grace))
        except RingtasksError as error:  # the other jobs are stopped all the same
            return str(error)

    for job, told in each(jobs, stop):
        tell(f"{job.host}: {told}")


def decisive(statuses: Sequence[JobStatus]) -> JobStatus:
    """Return the status that decides about the run.

    That is one that has not ended or may not have, since the job may go on; else that of the job
    that failed first.  A job that was stopped because another one failed is not the cause.
    """
    bad = [status for status in statuses if status.state is not JobState.SUCCEEDED]
    own = [status for status in bad if status.state is not JobState.STOPPED]
    return min(
        own or bad or statuses[:1],
        key=lambda status: (status.is_ended, status.ended_at or float("inf")),
    )


def exit_status_of(status: JobStatus) -> int:
    """Return the exit status of a run for the status that decides about it."""
    if status.state is JobState.SUCCEEDED:
        return 0
    return status.exit_status or (_STOPPED if status.state is JobState.STOPPED else UNREACHABLE)


def may_take_over(status: JobStatus, *, allow_split: bool) -> bool:
    """Return whether another host may take over from this job: never from one that may still run.

    Lost and killed jobs are taken over; one that failed by itself would fail again, and one that a
    user stopped was meant to end.
    """
    if status.state is JobState.UNKNOWN:
        return allow_split
    return status.state in (JobState.LOST, JobState.KILLED)


def _follow(job: Job, patience: float, events: _Events) -> None:
    try:
        why = job.follow(lambda chunk: events.put((job, chunk)), patience=patience)
        # If the log broke off, the host cannot be asked, or the job's folder is gone.
        limit = min(_STATE_TIMEOUT, patience)
        status = job.wait(limit, patience=patience) if why is None else job.status()
    # Such as an ssh configuration that is not valid any more: the caller waits for the event.
    except Exception as error:  # noqa: BLE001  # any error ends this thread
        status = JobStatus(job.id, job.host, JobState.UNKNOWN, reason=str(error))
    events.put((job, status))
