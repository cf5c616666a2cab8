"""List the jobs of a host, and delete those that have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from ringtasks.client.dialogue import Ask, Dialogue, answer_to
from ringtasks.client.result import why_failed
from ringtasks.client.ssh_client import SSHClient
from ringtasks.remote.answers import AnswerError
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program

from .job_cache import last_seen, remember
from .probe import parse_probe, probe_script
from .states import JobStatus

__all__ = [
    "HostJobs",
    "Pruned",
    "asked",
    "jobs_of",
    "named_once",
    "prune_on",
    "prune_script",
    "unasked",
]

Answer = TypeVar("Answer")


class HostJobs(NamedTuple):
    """Jobs of one host, ordered by their start.

    ``error`` is the reason if the host could not be asked.  ``jobs`` are then those that
    waited or ran at its last answer, in the state unknown.
    """

    host_id: str
    jobs: tuple[JobStatus, ...] = ()
    error: str | None = None


class Pruned(NamedTuple):
    """Jobs whose folders were deleted on one host; ``error``: the reason if not all could be."""

    host_id: str
    jobs: tuple[JobStatus, ...] = ()
    error: str | None = None


_PRUNE = Program(__file__, "prune.sh")


def prune_script(jobs: Iterable[str]) -> str:
    """Return a script that deletes the folders of the jobs with these ids."""
    return _PRUNE.render(rt_folder=JOBS_FOLDER, rt_ids=" ".join(jobs))


def asked(
    client: SSHClient,
    script: str,
    parse: Callable[[str], Answer],
    failed: Callable[[str, str], Answer],
) -> Dialogue[Answer]:
    """Return what the output of a script says.

    :param parse: gets the output; may raise AnswerError.
    :param failed: makes the result from the host's name and the reason if there is no answer.
    """
    answer = yield from answer_to(Ask(script))
    why = why_failed(answer)
    if why is None:
        try:
            return parse(answer.stdout)
        except AnswerError as error:
            why = f"{client.config.id}: {error}"
    return failed(client.config.id, why)


def jobs_of(client: SSHClient) -> Dialogue[HostJobs]:
    """Ask one host for its jobs; save them in the job cache."""
    host_id = client.config.id

    def parse(printed: str) -> HostJobs:
        found = tuple(parse_probe(printed, host_id).values())
        remember(host_id, found)
        return HostJobs(host_id, found)

    return asked(client, probe_script(), parse, unasked)


def unasked(host_id: str, error: str) -> HostJobs:
    """Return the jobs of a host that could not be asked."""
    return HostJobs(host_id, last_seen(host_id, error), error)


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
    gone = answer.stdout.split()
    deleted = tuple(job for job in old if job.id in gone)
    remember(known.host_id, [job for job in known.jobs if job not in deleted])
    why = why_failed(answer)
    if why is not None and answer.error is None:
        why = f"{known.host_id}: {why}"
    return Pruned(known.host_id, deleted, why)


def named_once(found: Iterable[Pruned]) -> list[Pruned]:
    """Return the results of hosts; of those that are one machine, the first has each job."""
    seen: set[str] = set()
    once = []
    for pruned in found:
        once.append(pruned._replace(jobs=tuple(job for job in pruned.jobs if job.id not in seen)))
        seen.update(job.id for job in pruned.jobs)
    return once


def _age(job: JobStatus) -> float:
    """Return the seconds since the job's end or, if that was not recorded, since its start."""
    end = job.ended_at or job.started_at or 0.0
    return max(0.0, (job.asked_at or 0.0) - end)
