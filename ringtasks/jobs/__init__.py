"""Commands that outlive the connection: started, listed, followed, waited for, stopped.

Nothing is installed on the host, and all facts about a job are kept there: every machine with the
inventory sees the same jobs.

::

    job = jobs.start("runpod-h100", "python train.py", name="train", gpus=1)
    for chunk in job.logs(follow=True): ...
    status = job.wait()                    # status.state, status.exit_status
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ringtasks.client.dialogue import Dialogue, hold, hold_async
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import FANOUT, each
from ringtasks.common.lines import Lines
from ringtasks.errors import UnknownJobError, UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.remote.gpus import Gpu
from ringtasks.remote.launcher import LOG_LIMIT_BYTES

from .host_status import Overview, overview_of, unread
from .job import PATIENCE, Job, launch
from .listing import HostJobs, Pruned, jobs_of, named_once, prune_on, unasked
from .names import each_once, pick, pick_all
from .request import JobRequest
from .states import JobState, JobStatus
from .stop_job import Process, Stopped

if TYPE_CHECKING:
    from ringtasks.inventory.model import HostConfig

    #: A name or an address, or an object of ringtasks that describes a host.
    Host = str | SSHClient | SSHConfig | HostConfig
    #: Such hosts, or a selector of the inventory.
    Hosts = str | Sequence[Host]

__all__ = [
    "PATIENCE",
    "Gpu",
    "HostJobs",
    "Job",
    "JobState",
    "JobStatus",
    "Lines",
    "Overview",
    "Process",
    "Pruned",
    "Stopped",
    "all_among",
    "among",
    "client_for",
    "each_once",
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
    batch: tuple[str, int] | None = None,
    any_memory: bool = False,
) -> Job:
    """Start ``command`` on the host, exactly once, so that it outlives the connection.

    :param name: a name for people; need not be unique.
    :param log_file: the file to which stdout and stderr are appended; ``~`` is the remote home, a
        relative path starts at ``cwd``; None: ``log`` in the job's folder, which keeps the latest
        part.
    :param cwd: None: the host's ``work_dir``, else the remote home.
    :param env: set for the command alone, and visible in no process list.
    :param gpus: number of free GPUs to reserve; they are named in ``CUDA_VISIBLE_DEVICES``, or
        ``HIP_VISIBLE_DEVICES`` for those of AMD, and freed when the job ends.
    :param after: the id of another job on the host; the job waits until that one ends, in any way.
    :param queue: wait until enough GPUs are free, first come, first served.
    :param log_limit_bytes: the size at which the older half of that log is discarded, if the host
        can make holes in files (fallocate(1) of util-linux); the size is checked every 5 s.
    :param group: one name for several jobs, on any hosts; tasks take it to mean all of them.
    :param batch: an id for one start on several hosts, and the number of these; with it ``name``
        means all jobs of that start.
    :param any_memory: also reserve GPUs whose memory is in use by no visible process, more than 5 %
        and 500 MiB of it.
    :raises JobNotStartedError: the job did not start; or (``is_unknown``) it may have started.
    :raises ValueError: a command, name, path or number is invalid.
    """
    return hold(*_launching(**locals()))


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
    batch: tuple[str, int] | None = None,
    any_memory: bool = False,
) -> Job:
    """Start like `start`, for asyncio; cancelling before it returns ends the job."""
    return await hold_async(*_launching(**locals()))


def _launching(
    host: Host,
    command: str,
    *,
    env: Mapping[str, str] | None,
    batch: tuple[str, int] | None,
    **given: Any,
) -> tuple[SSHClient, Dialogue[Job]]:
    """Return the client for the arguments of `start`, and the dialogue with its host."""
    client = client_for(host)
    batch_id, batch_size = batch or (None, None)
    request = JobRequest(command, env=env or {}, batch=batch_id, batch_size=batch_size, **given)
    return client, launch(client, request)


def list(hosts: Hosts, *, fanout: int = FANOUT) -> builtins.list[HostJobs]:
    """Return the jobs of each host in the order of ``hosts``, by one command per host."""
    return _of_all(hosts, jobs_of, unasked, fanout)


async def list_async(hosts: Hosts) -> builtins.list[HostJobs]:
    """List like `list`, for asyncio."""
    return await _of_all_async(hosts, jobs_of, unasked)


def prune(
    hosts: Hosts, older_than: float = 7 * 86400.0, *, fanout: int = FANOUT
) -> builtins.list[Pruned]:
    """Delete the folders and logs of jobs that ended at least ``older_than`` seconds ago.

    A job of a machine that has several names is in the answer of one of them.
    """
    return named_once(
        _of_all(hosts, lambda client: prune_on(client, older_than), _not_pruned, fanout)
    )


async def prune_async(hosts: Hosts, older_than: float = 7 * 86400.0) -> builtins.list[Pruned]:
    """Delete like `prune`, for asyncio."""
    return named_once(
        await _of_all_async(hosts, lambda client: prune_on(client, older_than), _not_pruned)
    )


def overview(hosts: Hosts, *, fanout: int = FANOUT) -> builtins.list[Overview]:
    """Return each host's GPUs, memory, disk, load and jobs, in the order of ``hosts``.

    One command runs per host.
    """
    return _of_all(hosts, overview_of, unread, fanout)


async def overview_async(hosts: Hosts) -> builtins.list[Overview]:
    """Return the same as `overview`, for asyncio."""
    return await _of_all_async(hosts, overview_of, unread)


def find(job: str, hosts: Hosts, *, fanout: int = FANOUT) -> Job:
    """Return the one job that has this id or name, or whose id or name begins with it.

    A name means the job of that name that waits or runs; if none does, the last one.

    :raises UnknownJobError: no job matches; it names the hosts that could not be asked.
    :raises AmbiguousJobError: several jobs match.
    """
    return _find(job, hosts, list(hosts, fanout=fanout))


async def find_async(job: str, hosts: Hosts) -> Job:
    """Find like `find`, for asyncio."""
    return _find(job, hosts, await list_async(hosts))


def _clients(hosts: Hosts) -> builtins.list[SSHClient]:
    if isinstance(hosts, str):
        from ringtasks.client.targets import targets_of  # most callers have names or clients

        return [client_for(host) for host in targets_of(hosts)]
    return [client_for(host) for host in hosts]


def client_for(host: Host) -> SSHClient:
    """Return the client for a name, an address, a configuration or a client."""
    if isinstance(host, SSHClient):
        return host
    if isinstance(host, str):
        from ringtasks.client.registry import get_ssh_client

        return get_ssh_client(host)
    if isinstance(host, SSHConfig):
        return SSHClient(host)
    return SSHClient(SSHConfig.from_host_config(host))


def _not_pruned(host_id: str, error: str) -> Pruned:
    return Pruned(host_id, error=error)


#: Makes the result for a host that cannot be used, from its name and the error.
Failed = Callable[[str, str], Answer]


def _of_all(
    hosts: Hosts,
    talk: Callable[[SSHClient], Dialogue[Answer]],
    failed: Failed[Answer],
    fanout: int,
) -> builtins.list[Answer]:
    """Return each host's answer, in the order of ``hosts``.

    :raises UsageError: the only host cannot be used; one of several has an answer that says so.
    """
    clients = _clients(hosts)

    def ask(n: int) -> Answer:
        try:
            return hold(clients[n], talk(clients[n]))
        except UsageError as error:
            if len(clients) == 1:
                raise
            return failed(clients[n].config.id, str(error))

    numbers = range(len(clients))
    answers = dict(each(numbers, ask, fanout))
    return [answers[n] for n in numbers]


async def _of_all_async(
    hosts: Hosts,
    talk: Callable[[SSHClient], Dialogue[Answer]],
    failed: Failed[Answer],
) -> builtins.list[Answer]:
    import asyncio

    clients = _clients(hosts)

    async def ask(client: SSHClient) -> Answer:
        try:
            return await hold_async(client, talk(client))
        except UsageError as error:
            if len(clients) == 1:
                raise
            return failed(client.config.id, str(error))

    return [*await asyncio.gather(*(ask(client) for client in clients))]


def among(job: str, known: Sequence[HostJobs]) -> JobStatus:
    """Return the job that `find` would, from a result of `list`."""
    return _picked(pick, job, known)


def all_among(job: str, known: Sequence[HostJobs]) -> builtins.list[JobStatus]:
    """Return the jobs of the group or the start of that name, or the one that `find` would."""
    return _picked(pick_all, job, known)


def _picked(
    picks: Callable[[str, Iterable[JobStatus]], Found], job: str, known: Sequence[HostJobs]
) -> Found:
    """Return the jobs that ``picks`` selects from those of all hosts.

    :raises UnknownJobError: no job matches; it names the hosts that could not be asked.
    """
    unasked = tuple(host.host_id for host in known if host.error is not None)
    try:
        return picks(job, [status for host in known for status in host.jobs])
    except UnknownJobError as error:
        raise UnknownJobError(error.job, unasked) from None


def _find(job: str, hosts: Hosts, known: Sequence[HostJobs]) -> Job:
    found = among(job, known)
    clients = _clients(hosts)
    return Job(next(c for c in clients if c.config.id == found.host_id), found.id)
