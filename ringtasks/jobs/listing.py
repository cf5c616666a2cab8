"""List the jobs of a host, and delete those that have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ringtasks.client.dialogue import Ask, Dialogue, answer_to
from ringtasks.client.result import last_words
from ringtasks.client.ssh_client import SSHClient
from ringtasks.remote.answers import AnswerError
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program

from .job_cache import last_seen, remember
from .probe import parse_probe, probe_script
from .states import JobStatus

__all__ = ["HostJobs", "Pruned", "jobs_of", "prune_on", "prune_script"]


class HostJobs(NamedTuple):
    """Jobs of one host, ordered by their start.

    ``error`` is the reason if the host could not be asked.  ``jobs`` are then those that
    waited or ran at its last answer, in the state unknown.
    """

    host_id: str
    jobs: tuple[JobStatus, ...] = ()
    error: str | None = None


class Pruned(NamedTuple):
    """Jobs whose folders were deleted on one host; ``error``: the reason if that failed."""

    host_id: str
    jobs: tuple[JobStatus, ...] = ()
    error: str | None = None


_PRUNE = Program(__file__, "prune.sh")


def prune_script(jobs: Iterable[str]) -> str:
    """Return a script that deletes the folders of the jobs with these ids."""
    return _PRUNE.render(rt_folder=JOBS_FOLDER, rt_ids=" ".join(jobs))


def jobs_of(client: SSHClient) -> Dialogue[HostJobs]:
    """Ask one host for its jobs; save them in the job cache."""
    host_id = client.config.id
    answer = yield from answer_to(Ask(probe_script()))
    if answer.error is not None or not answer.success:
        error = answer.error or last_words(answer)
        return HostJobs(host_id, last_seen(host_id, error), error)
    try:
        found = tuple(parse_probe(answer.stdout, host_id).values())
    except AnswerError as refused:
        error = f"{host_id}: {refused}"
        return HostJobs(host_id, last_seen(host_id, error), error)
    remember(host_id, found)
    return HostJobs(host_id, found)


def prune_on(client: SSHClient, older_than: float) -> Dialogue[Pruned]:
    """Delete the folders of jobs that ended at least ``older_than`` seconds ago.

    Those of another machine that shares the home are left alone.
    """
    known = yield from jobs_of(client)
    if known.error is not None:
        return Pruned(known.host_id, error=known.error)
    own = (job for job in known.jobs if job.is_ended and job.runs_on is None)
    old = tuple(job for job in own if _age(job) >= older_than)
    if not old:
        return Pruned(known.host_id)
    # If the log is elsewhere, its link is deleted and the log is kept.
    answer = yield from answer_to(Ask(prune_script([job.id for job in old])))
    if answer.error is not None or not answer.success:
        return Pruned(known.host_id, error=answer.error or last_words(answer))
    remember(known.host_id, [job for job in known.jobs if job not in old])
    return Pruned(known.host_id, old)


def _age(job: JobStatus) -> float:
    """Return the seconds since the job's end or, if that was not recorded, since its start."""
    end = job.ended_at or job.started_at or 0.0
    return max(0.0, (job.asked_at or 0.0) - end)
