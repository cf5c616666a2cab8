"""The jobs of many hosts at once, and clearing away those that have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ringtasks.client.dialogue import Ask, Conversation, answer_to
from ringtasks.client.ssh_client import SSHClient, last_words
from ringtasks.remote.launcher import JOBS_FOLDER

from .job_cache import last_seen, remember
from .probe import parse_probe, probe_script
from .states import JobStatus

__all__ = ["HostJobs", "Pruned", "jobs_of", "prune_on", "prune_script"]


class HostJobs(NamedTuple):
    """The jobs of one host, those that started first at the front.

    ``error``: why it could not be asked; ``jobs`` are those then that were live when it was last
    heard of, and their state is unknown.
    """

    host_id: str
    jobs: tuple[JobStatus, ...] = ()
    error: str | None = None


class Pruned(NamedTuple):
    """The jobs whose folders were deleted on one host; ``error``: why it could not be done."""

    host_id: str
    jobs: tuple[JobStatus, ...] = ()
    error: str | None = None


# What a starter has left that died before its job was one: ".ID.PID".
_PRUNE = """\
cd "$HOME/{folder}" || exit
for left in .[0-9a-f]*.*; do
  [ -d "$left" ] && ! kill -0 "${{left##*.}}" 2>/dev/null && rm -rf "$left"
done
rm -rf {jobs}
"""


def prune_script(jobs: Iterable[str]) -> str:
    """What deletes the folders of the jobs of these ids."""
    return _PRUNE.format(folder=JOBS_FOLDER, jobs=" ".join(jobs))


def jobs_of(client: SSHClient) -> Conversation[HostJobs]:
    """Ask one host; what it tells is remembered."""
    host_id = client.config.id
    answer = yield from answer_to(Ask(probe_script()))
    if answer.error is not None or not answer.success:
        error = answer.error or last_words(answer)
        return HostJobs(host_id, last_seen(host_id, error), error)
    found = tuple(parse_probe(answer.stdout, host_id).values())
    remember(host_id, found)
    return HostJobs(host_id, found)


def prune_on(client: SSHClient, older_than: float) -> Conversation[Pruned]:
    """Delete the folders of the jobs that ended so many seconds ago or earlier."""
    known = yield from jobs_of(client)
    if known.error is not None:
        return Pruned(known.host_id, error=known.error)
    old = tuple(job for job in known.jobs if job.is_ended and _age(job) >= older_than)
    if not old:
        return Pruned(known.host_id)
    # The log may be elsewhere: its link is deleted, the log is not.
    answer = yield from answer_to(Ask(prune_script([job.id for job in old])))
    if answer.error is not None or not answer.success:
        return Pruned(known.host_id, error=answer.error or last_words(answer))
    return Pruned(known.host_id, old)


def _age(job: JobStatus) -> float:
    """Seconds since it ended; since it started, where it left no trace of its end."""
    end = job.ended_at or job.started_at or 0.0
    return max(0.0, (job.asked_at or 0.0) - end)
