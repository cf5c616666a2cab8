"""Start a cluster as a whole; if it fails, end every part of it."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ringtasks import jobs
from ringtasks.client.ask import Ask
from ringtasks.client.result import SSHResult, last_words, why_failed
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import printable
from ringtasks.errors import ClusterError, JobNotStartedError, UsageError
from ringtasks.jobs import Job
from ringtasks.remote.programs import Program, Word
from ringtasks.training.rendezvous import find_rendezvous

from .cluster_state import Member, ask, look
from .commands import FOLDER, REAPER, check_options, folder_of, group_of, read, starts, temp_of
from .ending import end
from .port_guard import STRANGER
from .prepare import knows_tokens, prepare

__all__ = ["up"]

#: Seconds for all nodes to join, and between checks: each loads Ray on the head, for two seconds.
JOIN_TIMEOUT = 120.0
_JOIN_INTERVAL = 1.0

_WRITE_FILES = Program(__file__, "write_files.sh")
_REAPER = Program(__file__, REAPER)

Tell = Callable[[str], None]


def up(
    clients: Sequence[SSHClient],
    name: str,
    *,
    port: int = 0,
    dashboard_port: int | None = None,
    options: str = "",
    tell: Tell = lambda _: None,
) -> list[Member]:
    """Start a cluster over the hosts, the first one as its head; wait until all have joined.

    :param port: of the head's store; 0: a free one.
    :param dashboard_port: on the head's loopback; None: 8265 if it is free, else another one.
    :param options: more options for ``ray start`` on each host: ``--num-gpus=1``.
    :returns: its members, the head first.
    :raises UsageError: a cluster of that name has left a part on one of them, Ray is missing there
        or of different versions, or a port is in use; nothing was sent.
    :raises RendezvousError: the hosts do not reach the first one.
    :raises ClusterError: a host could not be asked, or Ray did not start; all started parts are
        ended again.
    """
    check_options(options)
    _check_free(clients, name)
    prepared = prepare(clients, dashboard_port)
    for client, own in zip(clients, prepared, strict=True):
        if not knows_tokens(own.ray):
            tell(f"{client.config.id}: Ray {own.ray} knows no tokens: its ports are open to anyone")
    rendezvous_point = find_rendezvous(clients, port)
    cluster_id = f"{name}-{secrets.token_hex(4)}"
    commands = starts(cluster_id, rendezvous_point, [own.ports for own in prepared], options)
    tell(
        f"the head is {clients[0].config.id}, at {rendezvous_point.address}:{rendezvous_point.port}"
    )
    rising = _Rising(cluster_id, name, clients, tell)
    try:
        rising.write_files(secrets.token_hex(32), temp_of(cluster_id, options))
        for client, command in zip(clients, commands, strict=True):
            rising.start(client, command)
            if len(rising.members) == 1:
                rising.await_nodes(1)
        rising.await_nodes(len(clients))
    except BaseException:  # Ctrl-C, too: half a cluster is of no use
        rising.undo()
        raise
    return rising.members


def _check_free(clients: Sequence[SSHClient], name: str) -> None:
    """Check that no cluster of that name exists.

    :raises UsageError: a part of one is left on a host.
    """
    cluster_state = look(clients, name)
    if cluster_state.members:
        raise UsageError(
            f"there is a Ray cluster {name!r} on these hosts: {cluster_state.described()}; "
            f"'{as_typed('ray.down')}' ends it"
        )
    for host, why in cluster_state.unreachable:
        raise ClusterError(host, f"it could not be asked: {why}")


@dataclass
class _Rising:
    """A cluster that is being started."""

    cluster_id: str
    name: str
    clients: Sequence[SSHClient]
    tell: Tell
    members: list[Member] = field(default_factory=list)

    def write_files(self, token: str, temp: str) -> None:
        """Write the cluster's files on each host.

        :param temp: the folder for Ray's sessions, for a shell.
        :raises ClusterError: a host could not be written to.
        """
        script = _WRITE_FILES.render(
            folder=Word(folder_of(self.cluster_id)),
            temp=Word(temp),
            program=_REAPER.text,
            name=REAPER,
        )
        for client, result in each(
            self.clients, lambda client: client.ask(Ask(script, env={"TOKEN": token}))
        ):
            if (why := why_failed(result)) is not None:
                raise ClusterError(
                    client.config.id, f"the files were not written to ~/{FOLDER}: {why}"
                )

    def start(self, client: SSHClient, command: str) -> None:
        """Start a part of the cluster.

        :raises ClusterError: there is no job, or it is unknown whether there is one.
        """
        try:
            job = jobs.start(
                client, command, name=f"ray-{self.name}", group=group_of(self.name), cwd="~"
            )
        except JobNotStartedError as error:
            raise ClusterError(client.config.id, str(error)) from error
        self.members.append(Member(client, self.cluster_id, job.status(), read(command)))

    def await_nodes(self, count: int) -> None:
        """Wait until ``count`` nodes are active.

        :raises ClusterError: one has ended, its port is another program's, or they have not joined
            in time.
        """
        head = self.members[0]
        deadline = time.monotonic() + JOIN_TIMEOUT
        while True:
            result = ask(head)
            if result.success and _active_nodes(result.stdout) >= count:
                return
            if result.returncode == STRANGER:
                raise ClusterError(head.host, last_words(result))
            for job in self._jobs():
                status = job.status()
                if status.is_ended:
                    raise ClusterError(job.host, f"Ray {status.describe()}: {_last_words(job)}")
            if time.monotonic() > deadline:
                raise ClusterError(head.host, f"not all nodes joined in time: {_said(result)}")
            time.sleep(_JOIN_INTERVAL)

    def undo(self) -> None:
        """End all started parts, also those that only the hosts know of, and remove the files."""
        cluster_state = look(self.clients, self.name)
        own = tuple(each for each in cluster_state.members if each.cluster_id == self.cluster_id)
        for ended in end(replace(cluster_state, members=own)):
            self.tell(f"{ended.host}: {ended.text}")

    def _jobs(self) -> list[Job]:
        return [Job(own.client, own.job.id) for own in self.members if own.job is not None]


def _active_nodes(printed: str) -> int:
    """Return the number of active nodes in the output of ``ray status``.

    Each has a line (autoscaler/_private/util.py, format_info_string).
    """
    active = re.search(r"^Active:\n((?: .*\n)*)", printed, re.MULTILINE)
    counts = re.findall(r"^ ([0-9]{1,6}) ", active[1], re.MULTILINE) if active else []
    return sum(map(int, counts))


def _said(result: SSHResult) -> str:
    return printable(result.error or result.stderr.strip() or result.stdout.strip())[-300:]


def _last_words(job: Job) -> str:
    said: list[bytes] = []
    with contextlib.suppress(ConnectionError):
        job.follow(said.append, follow=False, tail=5)
    return printable(b"".join(said).decode("utf-8", "replace"))[-500:]
