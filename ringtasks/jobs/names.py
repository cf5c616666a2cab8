"""Select jobs by an id, a name, or the beginning of either.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ringtasks.errors import AmbiguousJobError, UnknownJobError

from .states import JobState, JobStatus

__all__ = ["each_once", "last_by", "pick", "pick_all"]


def each_once(jobs: Iterable[JobStatus]) -> list[JobStatus]:
    """Return each job once: as its own machine reports it, if that was asked.

    Machines that share a home show the same jobs, and one machine may have several names.
    """
    best: dict[str, JobStatus] = {}
    for job in jobs:
        if job.id not in best or _distance(job) < _distance(best[job.id]):
            best[job.id] = job
    return list(best.values())


def _distance(job: JobStatus) -> tuple[bool, bool, bool, bool]:
    """Return how far the report is from the job's own machine."""
    is_unknown = job.state is JobState.UNKNOWN
    is_lost = job.state is JobState.LOST
    return job.runs_on is not None, is_unknown, is_lost, job.host_id != job.started_on


def pick(wanted: str, jobs: Iterable[JobStatus]) -> JobStatus:
    """Return the job with this id, else with this name, else whose id or name begins with it.

    A name may be used again: it means the one job of that name that waits or runs; if none does,
    the one that started last.

    :raises UnknownJobError: no job matches.
    :raises AmbiguousJobError: several jobs match.
    """
    jobs = each_once(jobs)
    exact = [job for job in jobs if job.id == wanted]
    named = [job for job in jobs if job.name == wanted]
    begun = [job for job in jobs if _begins(job, wanted)]
    for found in (exact, _current(named), begun):
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousJobError(wanted, tuple(_label(job) for job in found))
    raise UnknownJobError(wanted)


def pick_all(wanted: str, jobs: Iterable[JobStatus]) -> list[JobStatus]:
    """Return the jobs of the group of that name, else of that name, else the one of `pick`.

    Jobs of a group that have ended are left out, unless all have ended.  A name means all jobs of
    its last start, those that have ended too, and on other hosts those that wait or run.

    :raises UnknownJobError: no job matches.
    :raises AmbiguousJobError: several jobs match, or one host has several of them.
    """
    jobs = each_once(jobs)
    members = [job for job in jobs if job.group == wanted]
    if members:
        return [job for job in members if not job.is_ended] or members
    named = [job for job in jobs if job.name == wanted]
    if not named or any(job.id == wanted for job in jobs):
        return [pick(wanted, jobs)]
    return _last_start(wanted, named)


def last_by(owner: str, jobs: Iterable[JobStatus]) -> list[JobStatus]:
    """Return the job that ``owner`` started last, or the jobs of that start; or []."""
    own = [job for job in each_once(jobs) if job.by == owner]
    return _of_last_start(own, own) if own else []


def _last_start(wanted: str, named: list[JobStatus]) -> list[JobStatus]:
    """Return the jobs of one name that were started last, and the others that wait or run."""
    live = [job for job in named if not job.is_ended]
    batch = _of_last_start(live or named, named)
    found = batch + [job for job in live if job not in batch]
    hosts = [job.host_id for job in found]
    if len(set(hosts)) < len(hosts):
        raise AmbiguousJobError(wanted, tuple(_label(job) for job in found))
    return found


def _of_last_start(candidates: list[JobStatus], jobs: list[JobStatus]) -> list[JobStatus]:
    """Return the last of the candidates, and those of ``jobs`` that were started with it."""
    last = sorted(candidates, key=_start)[-1]  # of equal times the last: they are in order
    return [job for job in jobs if last.batch is not None and job.batch == last.batch] or [last]


def _start(job: JobStatus) -> float:
    """Return the time of the job's start; a job that waits comes after those that began."""
    return float("inf") if job.started_at is None else job.started_at


def _begins(job: JobStatus, wanted: str) -> bool:
    return bool(wanted) and (job.id.startswith(wanted) or (job.name or "").startswith(wanted))


def _current(jobs: list[JobStatus]) -> list[JobStatus]:
    live = [job for job in jobs if not job.is_ended]
    return live or sorted(jobs, key=lambda job: job.started_at or 0)[-1:]


def _label(job: JobStatus) -> str:
    name = f" ({job.name})" if job.name else ""
    return f"{job.id}{name} on {job.host_id}: {job.state}"
