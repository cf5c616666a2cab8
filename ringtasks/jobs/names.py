"""Select jobs by an id, a name, or the beginning of either.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ringtasks.errors import AmbiguousJobError, UnknownJobError

from .states import JobStatus

__all__ = ["pick", "pick_all"]


def pick(wanted: str, jobs: Iterable[JobStatus]) -> JobStatus:
    """Return the job with this id, else with this name, else whose id or name begins with it.

    A name may be used again: it means the one job of that name that waits or runs; if none does,
    the one that started last.

    :raises UnknownJobError: no job matches.
    :raises AmbiguousJobError: several jobs match.
    """
    jobs = list(jobs)
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
    """Return the jobs of the group of that name, else the one job that `pick` finds.

    Jobs of a group that have ended are left out, unless all have ended.

    :raises UnknownJobError: no job matches.
    :raises AmbiguousJobError: several jobs match.
    """
    jobs = list(jobs)
    members = [job for job in jobs if job.group == wanted]
    return [job for job in members if not job.is_ended] or members or [pick(wanted, jobs)]


def _begins(job: JobStatus, wanted: str) -> bool:
    return bool(wanted) and (job.id.startswith(wanted) or (job.name or "").startswith(wanted))


def _current(jobs: list[JobStatus]) -> list[JobStatus]:
    live = [job for job in jobs if not job.is_ended]
    return live or sorted(jobs, key=lambda job: job.started_at or 0)[-1:]


def _label(job: JobStatus) -> str:
    name = f" ({job.name})" if job.name else ""
    return f"{job.id}{name} on {job.host_id}: {job.state}"
