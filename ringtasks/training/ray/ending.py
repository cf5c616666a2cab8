"""End a cluster: every part of it that can be reached, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ringtasks.client.result import last_words
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.common.program_name import as_typed
from ringtasks.exit_status import UNREACHABLE
from ringtasks.jobs import Job, Stopped

from .cluster_state import ClusterState, Member
from .commands import folder_of

__all__ = ["Ended", "end"]

#: Seconds between TERM and KILL: Ray's head would drain for 30 s, with no node left to drain to.
_STOP_GRACE = 5.0

_REMOVE = "rm -rf {folder}; [ ! -e {folder} ]"


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
        yield Ended(host, f"{text} '{as_typed('ray.down')} --host {host}'", UNREACHABLE)


def _end(member: Member) -> Ended:
    said = "it had files only"
    if member.job is not None:
        stopped = Job(member.client, member.job.id).stop(_STOP_GRACE)
        said = str(stopped)
        if not stopped.is_gone:
            return Ended(member.host, said, _status_of(stopped))
    why = _remove_files(member.client, member.cluster_id)
    if why is not None:
        return Ended(member.host, f"{said}; its files were not removed: {why}", UNREACHABLE)
    return Ended(member.host, said)


def _status_of(stopped: Stopped) -> int:
    return UNREACHABLE if stopped.error else 1


def _remove_files(client: SSHClient, cluster_id: str) -> str | None:
    """Remove the cluster's folder, with its token; return the reason of a failure, or None."""
    result = client.run(_REMOVE.format(folder=folder_of(cluster_id)), cwd="~")
    return None if result.success else result.error or last_words(result)
