"""Commands that outlive the connection: started, listed, followed, waited for, stopped.

Nothing is installed on the host, and nothing about a job is kept anywhere else: every machine with
the inventory sees the same jobs.

::

    job = jobs.start("runpod-h100", "python train.py", name="train", gpus=1)
    for chunk in job.logs(follow=True): ...
    status = job.wait()                    # status.state, status.exit_status
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ringtasks.client.dialogue import Conversation, hold, hold_async
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import FANOUT, each
from ringtasks.errors import UnknownJobError
from ringtasks.inventory.config import SSHConfig
from ringtasks.remote.launcher import LOG_LIMIT_BYTES

from .gpus import Gpu
from .host_status import Overview, overview_of
from .job import PATIENCE, Job, launch
from .listing import HostJobs, Pruned, jobs_of, prune_on
from .logs import Lines
from .names import pick, pick_all
from .request import Request
from .states import JobStatus, State
from .stopping import Process, Stopped

if TYPE_CHECKING:
    from ringtasks.inventory.model import HostConfig

    #: A name, an address, or what one of ours says of a host.
    Host = str | SSHClient | SSHConfig | HostConfig

__all__ = [
    "PATIENCE",
    "Gpu",
    "HostJobs",
    "Job",
    "JobStatus",
    "Lines",
    "Overview",
    "Process",
    "Pruned",
    "State",
    "Stopped",
    "all_among",
    "among",
    "client_for",
    "find",
    "find_async",
    "list",
    "list_async",
    "overview",
    "overview_async",
    "prune",
    "prune_async",
    "start",
    "start_async",
]

Found = TypeVar("Found")
Answer = TypeVar("Answer")


def start(
    host: Host,
    command: str,
    *,
    name: str | None = None,
    log_file: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    gpus: int = 0,
    after: str | None = None,
    queue: bool = False,
    log_limit_bytes: int = LOG_LIMIT_BYTES,
    group: str | None = None,
) -> Job:
    """Start ``command`` on the host, exactly once, so that it outlives the connection.

    :param name: what people call it; need not be unique.
    :param log_file: where both its streams are appended; ``~`` is the remote home, a relative one
        starts at ``cwd``; None: ``log`` in the job's folder, of which the latest part is kept.
    :param cwd: None: the host's ``work_dir``, else the remote home.
    :param env: set for the command alone, and seen in no process list.
    :param gpus: so many free GPUs are reserved for it, named in ``CUDA_VISIBLE_DEVICES``, and freed
        when it ends.
    :param after: the id of another job on the host, for whose end it waits, however that ends.
    :param queue: wait until enough GPUs are free, first come, first served.
    :param log_limit_bytes: the size of that log from which on its older half is given up, where the
        host can make holes in files (fallocate(1) of util-linux); it is looked at every 5 s.
    :param group: one name for several jobs, on whatever hosts: to the tasks it means all of them.
    :raises JobNotStartedError: there is no job, and it says why; or (``is_unknown``) nobody knows.
    :raises ValueError: a command, name, path or number that makes no sense.
    """
    client = client_for(host)
    request = Request(
        command, name, log_file, cwd, env or {}, gpus, after, queue, log_limit_bytes, group
    )
    return hold(client, launch(client, request))


async def start_async(
    host: Host,
    command: str,
    *,
    name: str | None = None,
    log_file: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    gpus: int = 0,
    after: str | None = None,
    queue: bool = False,
    log_limit_bytes: int = LOG_LIMIT_BYTES,
    group: str | None = None,
) -> Job:
    """`start`, for asyncio; cancelling while it is under way ends the job."""
    client = client_for(host)
    request = Request(
        command, name, log_file, cwd, env or {}, gpus, after, queue, log_limit_bytes, group
    )
    return await hold_async(client, launch(client, request))


def list(hosts: Sequence[Host], *, fanout: int = FANOUT) -> builtins.list[HostJobs]:
    """The jobs of each host, in the order of ``hosts``; one command a host, ``fanout`` at once."""
    return _of_all(hosts, jobs_of, fanout)


async def list_async(hosts: Sequence[Host]) -> builtins.list[HostJobs]:
    """`list`, for asyncio."""
    return await _of_all_async(hosts, jobs_of)


def prune(
    hosts: Sequence[Host], older_than: float = 7 * 86400.0, *, fanout: int = FANOUT
) -> builtins.list[Pruned]:
    """Delete the folders, with their logs, of jobs that ended ``older_than`` seconds ago."""
    return _of_all(hosts, lambda client: prune_on(client, older_than), fanout)


async def prune_async(
    hosts: Sequence[Host], older_than: float = 7 * 86400.0
) -> builtins.list[Pruned]:
    """`prune`, for asyncio."""
    return await _of_all_async(hosts, lambda client: prune_on(client, older_than))


def overview(hosts: Sequence[Host], *, fanout: int = FANOUT) -> builtins.list[Overview]:
    """How each host is doing, in the order of ``hosts``; one command a host."""
    return _of_all(hosts, overview_of, fanout)


async def overview_async(hosts: Sequence[Host]) -> builtins.list[Overview]:
    """`overview`, for asyncio."""
    return await _of_all_async(hosts, overview_of)


def find(job: str, hosts: Sequence[Host], *, fanout: int = FANOUT) -> Job:
    """The one job that an id, the beginning of one, or a name means.

    A name means the job of that name that waits or runs; where none does, the last one.

    :raises UnknownJobError: no such job; it names the hosts that could not be asked.
    :raises AmbiguousJobError: several.
    """
    return _find(job, hosts, list(hosts, fanout=fanout))


async def find_async(job: str, hosts: Sequence[Host]) -> Job:
    """`find`, for asyncio."""
    return _find(job, hosts, await list_async(hosts))


def client_for(host: Host) -> SSHClient:
    """The client for whatever stands for a host."""
    if isinstance(host, SSHClient):
        return host
    if isinstance(host, str):
        from ringtasks.client.registry import get_ssh_client

        return get_ssh_client(host)
    if isinstance(host, SSHConfig):
        return SSHClient(host)
    return SSHClient(SSHConfig.from_host_config(host))


def _of_all(
    hosts: Sequence[Host], talk: Callable[[SSHClient], Conversation[Answer]], fanout: int
) -> builtins.list[Answer]:
    """What each host answers, in the order of ``hosts``."""
    clients = [client_for(host) for host in hosts]
    numbers = range(len(clients))
    answers = dict(each(numbers, lambda n: hold(clients[n], talk(clients[n])), fanout))
    return [answers[n] for n in numbers]


async def _of_all_async(
    hosts: Sequence[Host], talk: Callable[[SSHClient], Conversation[Answer]]
) -> builtins.list[Answer]:
    import asyncio

    clients = [client_for(host) for host in hosts]
    return [*await asyncio.gather(*(hold_async(client, talk(client)) for client in clients))]


def among(job: str, known: Sequence[HostJobs]) -> JobStatus:
    """`find`, in what `list` has answered."""
    return _picked(pick, job, known)


def all_among(job: str, known: Sequence[HostJobs]) -> builtins.list[JobStatus]:
    """The jobs of the group of that name, or what `find` means, in what `list` has answered."""
    return _picked(pick_all, job, known)


def _picked(
    picks: Callable[[str, Iterable[JobStatus]], Found], job: str, known: Sequence[HostJobs]
) -> Found:
    """:raises UnknownJobError: nothing is; it names the hosts that could not be asked."""
    unasked = tuple(host.host_id for host in known if host.error is not None)
    try:
        return picks(job, [status for host in known for status in host.jobs])
    except UnknownJobError as error:
        raise UnknownJobError(error.job, unasked) from None


def _find(job: str, hosts: Sequence[Host], known: Sequence[HostJobs]) -> Job:
    found = among(job, known)
    clients = [client_for(host) for host in hosts]
    return Job(next(c for c in clients if c.config.id == found.host_id), found.id)
