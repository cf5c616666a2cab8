"""The hosts of a cluster and their states: `look`, which changes nothing.

A host that cannot be asked may still run its part, so its state is unknown, never empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ringtasks import jobs
from ringtasks.client.ask import Ask
from ringtasks.client.result import SSHResult, why_failed
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import joined_lines
from ringtasks.errors import AnswerError, ClusterError, UsageError
from ringtasks.jobs import JobStatus
from ringtasks.remote.answers import whole
from ringtasks.remote.script import quote

from .commands import FOLDER, Start, group_of, guarded, ray, read

__all__ = ["ClusterState", "Member", "ask", "look", "nowhere"]

#: Seconds for a request to the head. Loading Ray from a cold disk is slow.
_ASK_TIMEOUT = 60.0

_LIST = f'[ -e "$HOME/{FOLDER}" ] || exit 0; cd "$HOME/{FOLDER}" && ls'


class Member(NamedTuple):
    """A host's part in a cluster: a job, or a folder that was left there without one."""

    client: SSHClient
    cluster_id: str
    job: JobStatus | None = None
    start: Start | None = None

    @property
    def host(self) -> str:
        return self.client.config.id

    @property
    def is_head(self) -> bool:
        return self.start is not None and self.start.is_head

    @property
    def is_live(self) -> bool:
        """True if its host reports that it runs."""
        return self.job is not None and self.job.state.is_live

    @property
    def role(self) -> str:
        return "files" if self.job is None else "head" if self.is_head else "worker"

    def describe(self) -> str:
        """Return its state as text for the user."""
        return self.job.describe() if self.job else "no job, only files"

    def guarded(self, command: str, port: int) -> str:
        """Return ``command``, run only if ``port`` is that of its job; see `commands.guarded`."""
        assert self.job is not None  # noqa: S101  # a head has one
        return guarded(command, port, self.job.id)


@dataclass(frozen=True)
class ClusterState:
    """The parts of the clusters of a name: one cluster, unless parts of an older one are left."""

    name: str
    members: tuple[Member, ...] = ()
    """Heads first. For a host that did not answer: its last known state."""
    unreachable: tuple[tuple[str, str], ...] = ()
    """Hosts that have or may have a part and could not be asked, each with the reason."""
    absent: tuple[str, ...] = ()
    """Hosts that belong to it and answered, and have no part of it any more."""
    unasked: tuple[str, ...] = ()
    """Hosts that belong to it, by their names at that time, and are not among those given."""

    @property
    def head(self) -> Member | None:
        """The head: the running one, if one runs."""
        heads = [member for member in self.members if member.is_head]
        return next((head for head in heads if head.is_live), heads[0] if heads else None)

    @property
    def is_nowhere(self) -> bool:
        """True if all hosts answered, and none has a part of it."""
        return not self.members and not self.unreachable

    @property
    def is_well(self) -> bool:
        """True if every part of it runs, by the reports of the hosts."""
        return (
            self.head is not None
            and not self.unreachable
            and not self.absent
            and all(member.is_live for member in self.members)
        )

    def described(self) -> str:
        """Return every part in one line: ``a: head running; b: unknown: timed out``."""
        parts = [f"{member.host}: {member.role} {member.describe()}" for member in self.members]
        known = {member.host for member in self.members}
        parts += [f"{host}: unknown: {why}" for host, why in self.unreachable if host not in known]
        return "; ".join(parts)

    def working_head(self) -> Member:
        """Return the running head.

        :raises UsageError: there is no cluster.
        :raises ClusterError: it has ended, or its state is unknown.
        """
        if self.is_nowhere:
            raise nowhere(self.name)
        head = self.head
        if head is not None and head.is_live:
            return head
        if head is not None and head.job is not None and head.job.is_ended:
            raise ClusterError(
                head.host,
                f"the head of the Ray cluster {self.name!r} is not running: {head.describe()}; "
                f"'{as_typed('ray.down')}' ends its remaining parts",
            )
        host, why = self.unreachable[0] if self.unreachable else (self.members[0].host, "no head")
        raise ClusterError(host, f"whether there is a Ray cluster {self.name!r} is unknown: {why}")


def nowhere(name: str) -> UsageError:
    """Return the error for a cluster that no host has, after all were asked."""
    return UsageError(
        f"there is no Ray cluster {name!r} on these hosts: '{as_typed('ray.up')}' makes one"
    )


def ask(head: Member) -> SSHResult:
    """Return the output of ``ray status``, if the head's own process would receive the token.

    :raises ClusterError: the head's command, as its host gives it, names no port.
    """
    assert head.start is not None  # noqa: S101  # a head is known by it
    host, _, text = head.start.address.rpartition(":")
    try:
        port = whole(text, "port of Ray", at_least=1, at_most=65535)
    except AnswerError as error:
        raise ClusterError(head.host, str(error)) from error
    command = f"{ray(head.cluster_id)} status --address {quote(f'{host}:{port}')}"
    return head.client.ask(Ask(head.guarded(command, port), _ASK_TIMEOUT, in_venv=True))


def look(clients: Sequence[SSHClient], name: str) -> ClusterState:
    """Ask all hosts for their parts of the clusters of that name."""
    looks = {seen.client.config.id: seen for _, seen in each(clients, lambda c: _look(c, name))}
    found = [member for client in clients for member in looks[client.config.id].members]
    present = {member.cluster_id for member in found if _leaves_something(member, looks)}
    members = sorted(
        (member for member in found if member.cluster_id in present),
        key=lambda member: (not member.is_head, not member.is_live, -_started_at(member)),
    )
    listed = {host: None for member in members if member.start for host in member.start.hosts}
    errors = {host: seen.error for host, seen in looks.items() if seen.error is not None}
    concerned = {member.host for member in members} | set(listed) if members else set(errors)
    others = [host for host in listed if host not in {member.host for member in members}]
    return ClusterState(
        name,
        tuple(members),
        tuple((host, why) for host, why in errors.items() if host in concerned),
        tuple(host for host in others if host in looks and host not in errors),
        tuple(host for host in others if host not in looks),
    )


class _Look(NamedTuple):
    client: SSHClient
    members: tuple[Member, ...] = ()
    folders: frozenset[str] = frozenset()
    error: str | None = None


def _look(client: SSHClient, name: str) -> _Look:
    (known,) = jobs.list([client])
    group = group_of(name)
    members = []
    for job in known.jobs:
        start = read(job.command) if job.group == group else None
        if start is not None:
            members.append(Member(client, start.cluster_id, job, start))
    if known.error is not None:
        why = _why(client, known.error)
        last = (own._replace(job=replace(own.job, reason=why)) for own in members if own.job)
        return _Look(client, tuple(last), error=why)
    answer = client.ask(Ask(_LIST))
    if (failure := why_failed(answer)) is not None:
        return _Look(client, tuple(members), error=_why(client, failure))
    own = rf"{re.escape(name)}-[0-9a-f]{{8}}"
    folders = frozenset(word for word in answer.stdout.split() if re.fullmatch(own, word))
    alone = folders - {member.cluster_id for member in members}
    members += [Member(client, cluster_id) for cluster_id in sorted(alone)]
    return _Look(client, tuple(members), folders)


def _why(client: SSHClient, error: str) -> str:
    """Return why a host could not be asked, on one line, without its name, which precedes it."""
    return joined_lines(error).removeprefix(f"{client.config.id}: ")


def _leaves_something(member: Member, looks: dict[str, _Look]) -> bool:
    """Return whether a part of the member's cluster may be left on its host."""
    is_settled = member.job is not None and member.job.is_ended
    return not is_settled or member.cluster_id in looks[member.host].folders


def _started_at(member: Member) -> float:
    return (member.job.started_at if member.job else None) or 0.0
