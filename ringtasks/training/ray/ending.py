"""End a cluster: every part of it that can be reached, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ringtasks.client.ask import Ask
from ringtasks.client.result import why_failed
from ringtasks.common.fanout import each
from ringtasks.common.program_name import as_typed
from ringtasks.exit_status import UNREACHABLE
from ringtasks.jobs import Job
from ringtasks.remote.programs import Program, Word

from .cluster_state import ClusterState, Member
from .commands import folder_of

__all__ = ["Ended", "end"]

#: Seconds between TERM and KILL: Ray's head would drain for 30 s, with no node left to drain to.
_STOP_GRACE = 5.0

_REMOVE = Program(__file__, "remove_files.sh")


class Ended(NamedTuple):
    """One host: the outcome for its part, and the exit status for it."""

    host: str
    text: str
    status: int = 0


def end(cluster_state: ClusterState) -> Iterator[Ended]:
    """End the workers, then the heads; yield each host, the unreachable ones too."""
    away = dict(cluster_state.unreachable)
    there = [member for member in cluster_state.members if member.host not in away]
    heads = [member for member in there if member.is_head]
    for group in ([member for member in there if not member.is_head], heads):
        for _, ended in each(group, _end):
            yield ended
    for host, why in away.items():
        text = f"unknown: {why}: its part of the cluster may still run; when it answers, end it by"
        yield Ended(host, f"{text} '{as_typed(f'ray.down --host {host}')}'", UNREACHABLE)


def _end(member: Member) -> Ended:
    said = "it had files only"
    if member.job is not None:
        stopped = Job(member.client, member.job.id).stop(_STOP_GRACE)
        said = str(stopped)
        if not stopped.is_gone:
            return Ended(member.host, said, UNREACHABLE if stopped.error else 1)
    remove = _REMOVE.render(folder=Word(folder_of(member.cluster_id)))
    removed = member.client.ask(Ask(remove))
    if (why := why_failed(removed)) is None:
        return Ended(member.host, said)
    status = UNREACHABLE if removed.error else 1
    return Ended(member.host, f"{said}; its files were not removed: {why}", status)
