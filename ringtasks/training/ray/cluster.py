"""A Ray cluster over hosts: ``ray start`` as a job on each, and Ray's own job API for what it runs.

Nothing is kept here: the jobs on the hosts, which bear the cluster's name, tell which hosts belong
to it, and the head's command tells its ports.  Whoever reaches a cluster's ports may run anything
there, so it is given a token (Ray 2.52 and later ask for it), which stays on the hosts, in a file
for their users only.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ringtasks import jobs
from ringtasks.client.result import SSHResult
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.common.text import printable
from ringtasks.errors import ClusterError, JobNotStartedError, UsageError
from ringtasks.jobs import Job, JobStatus, Stopped
from ringtasks.remote.script import quote
from ringtasks.training.rendezvous import Meeting, find_meeting

__all__ = ["DASHBOARD_PORT", "Cluster", "find", "up"]

DASHBOARD_PORT = 8265  # ray start --help
#: Seconds for all nodes to join, and between looks.
JOIN_TIMEOUT = 120.0
_JOIN_INTERVAL = 1.0
#: Seconds for a question to the head. Loading Ray from a cold disk takes its time.
_ASK_TIMEOUT = 60.0
#: Seconds between TERM and KILL: Ray's head would drain for 30 s, and there is nothing to drain to.
_STOP_GRACE = 5.0

#: A path for a shell: what is written there is the secret.
_KEPT_AT = '"$HOME/.ringtasks/ray.token"'
_RAY = f"env RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={_KEPT_AT} ray"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """A cluster's jobs, the head's first, and the ports of the head."""

    name: str
    nodes: tuple[JobStatus, ...]
    clients: tuple[SSHClient, ...]
    address: str
    dashboard_port: int

    @property
    def head(self) -> SSHClient:
        """The client of the head's host."""
        return self.clients[0]

    def status(self) -> SSHResult:
        """What ``ray status`` says of the nodes and of what is asked for."""
        return self._on_head(f"{_RAY} status --address {quote(self.address)}", _ASK_TIMEOUT)

    def submit(
        self,
        command: str,
        working_dir: str | None,
        *,
        wait: bool,
        on_output: Callable[[int, bytes], None],
    ) -> SSHResult:
        """Hand a command to Ray's job API; its log, and 0 where it has succeeded.

        :param working_dir: a folder of the head's host that Ray brings to where the command runs.
        :param wait: False: only until Ray has taken it.
        """
        told = [f"{_RAY} job submit", f"--address http://127.0.0.1:{self.dashboard_port}"]
        if working_dir is not None:
            told.append(f"--working-dir {quote(working_dir)}")
        if not wait:
            told.append("--no-wait")
        return self._on_head(f"{' '.join(told)} -- {command}", 0, on_output)

    def down(self) -> Iterator[tuple[str, Stopped]]:
        """Stop the workers and then the head; each host with what was found there."""
        handles = [
            Job(client, node.id) for client, node in zip(self.clients, self.nodes, strict=True)
        ]
        for job, stopped in each(handles[1:], lambda job: job.stop(_STOP_GRACE)):
            yield job.host, stopped
        yield handles[0].host, handles[0].stop(_STOP_GRACE)
        for client in self.clients:
            client.run(f"rm -f {_KEPT_AT}", cwd="~")

    def _on_head(
        self,
        command: str,
        timeout: float,
        on_output: Callable[[int, bytes], None] | None = None,
    ) -> SSHResult:
        return self.head.run(command, timeout=timeout, cwd="~", on_output=on_output)


def up(
    clients: Sequence[SSHClient],
    name: str,
    *,
    dashboard_port: int = DASHBOARD_PORT,
    options: str = "",
    tell: Tell = lambda _: None,
) -> Cluster:
    """Bring a cluster up over the hosts, the first of which is its head, and wait until all joined.

    :param options: more for ``ray start`` on each host: ``--num-gpus=1``.
    :raises UsageError: there is a cluster of that name on one of them.
    :raises MeetingError: the hosts do not reach the first one.
    :raises ClusterError: Ray did not start; what did is stopped again.
    """
    if _members(clients, name):
        raise UsageError(f"there is a Ray cluster {name!r} on these hosts: 'inv ray.down' ends it")
    meeting = find_meeting(clients)
    tell(f"the head is {clients[0].config.id}, at {meeting.address}:{meeting.port}")
    _write_token(clients, secrets.token_hex(32))
    started: list[Job] = []
    try:
        for client, command in zip(
            clients, _commands(meeting, dashboard_port, options), strict=True
        ):
            started.append(_start(client, command, name))
            if len(started) == 1:
                _await_nodes(find(clients, name), started, 1)
        cluster = find(clients, name)
        _await_nodes(cluster, started, len(clients))
    except BaseException:
        for _, stopped in each(started, lambda job: job.stop(_STOP_GRACE)):
            tell(str(stopped))
        raise
    return cluster


def find(clients: Sequence[SSHClient], name: str) -> Cluster:
    """The cluster of that name on the hosts.

    :raises UsageError: there is none.
    """
    members = _members(clients, name)
    heads = [node for node in members if " --head " in node.command]
    if not heads:
        raise UsageError(f"there is no Ray cluster {name!r} on these hosts: 'inv ray.up' makes one")
    by_host = {client.config.id: client for client in clients}
    nodes = (heads[0], *(node for node in members if node is not heads[0]))
    flags = dict(re.findall(r"--([\w-]+)='([^']*)'", heads[0].command))
    return Cluster(
        name,
        nodes,
        tuple(by_host[node.host_id] for node in nodes),
        f"{flags.get('node-ip-address', '127.0.0.1')}:{flags.get('port', '6379')}",
        int(flags.get("dashboard-port", DASHBOARD_PORT)),
    )


def _members(clients: Sequence[SSHClient], name: str) -> list[JobStatus]:
    known = jobs.list(clients)
    group = _group(name)
    return [job for own in known for job in own.jobs if job.group == group and not job.is_ended]


def _group(name: str) -> str:
    return f"ray:{name}"


def _commands(meeting: Meeting, dashboard_port: int, options: str) -> Iterator[str]:
    """What each host runs; the dashboard, and with it the job API, is on the head's loopback."""
    store = f"{meeting.address}:{meeting.port}"
    for n, node in enumerate(meeting.nodes):
        flags = {"node-ip-address": node.address}
        if n == 0:
            flags["port"] = str(meeting.port)
            flags["dashboard-host"] = "127.0.0.1"
            flags["dashboard-port"] = str(dashboard_port)
        else:
            flags["address"] = store
        told = " ".join(f"--{flag}={quote(value)}" for flag, value in flags.items())
        head = " --head" if n == 0 else ""
        yield (f"exec {_RAY} start{head} {told} --disable-usage-stats --block {options}".rstrip())


def _write_token(clients: Sequence[SSHClient], token: str) -> None:
    """:raises ClusterError: a host took it not."""
    script = f'(umask 077 && mkdir -p "$HOME/.ringtasks" && printf %s "$TOKEN" >{_KEPT_AT})'
    for client, result in each(
        clients, lambda client: client.run(script, cwd="~", env={"TOKEN": token})
    ):
        if not result.success:
            why = result.error or result.stderr.strip()
            raise ClusterError(client.config.id, f"the token was not written: {printable(why)}")


def _start(client: SSHClient, command: str, name: str) -> Job:
    try:
        return jobs.start(client, command, name=f"ray-{name}", group=_group(name), cwd="~")
    except JobNotStartedError as error:
        raise ClusterError(client.config.id, str(error)) from error


def _await_nodes(cluster: Cluster, started: Sequence[Job], count: int) -> None:
    """Until so many nodes are active.

    :raises ClusterError: one has ended, or they have not joined in time.
    """
    deadline = time.monotonic() + JOIN_TIMEOUT
    while True:
        result = cluster.status()
        if result.success and _active_nodes(result.stdout) >= count:
            return
        for job in started:
            status = job.status()
            if status.is_ended:
                raise ClusterError(job.host, f"Ray {status.describe()}: {_last_words(job)}")
        if time.monotonic() > deadline:
            said = printable(result.error or result.stderr.strip() or result.stdout.strip())[-300:]
            raise ClusterError(cluster.head.config.id, f"not all nodes joined in time: {said}")
        time.sleep(_JOIN_INTERVAL)


def _active_nodes(printed: str) -> int:
    """From ``ray status`` (autoscaler/_private/util.py, format_info_string): one line a node."""
    active = re.search(r"^Active:\n((?: .*\n)*)", printed, re.MULTILINE)
    return sum(int(n) for n in re.findall(r"^ (\d+) ", active[1], re.MULTILINE)) if active else 0


def _last_words(job: Job) -> str:
    said: list[bytes] = []
    with contextlib.suppress(ConnectionError):
        job.follow(said.append, follow=False, tail=5)
    return printable(b"".join(said).decode("utf-8", "replace"))[-500:]
