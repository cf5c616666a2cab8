"""The hosts of a transfer, each with its own part, so many at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from ..client import SSHClient
from ..config import SSHConfig
from ..errors import RingtasksError, UsageError
from ..fanout import each
from ..inventory import HostConfig, load_inventory
from ..selection import select
from ..stopping import Stop
from .haul import Haul, TransferError
from .one_host import Work
from .options import Options
from .results import HostTransfer, OnProgress, TransferResult

__all__ = ["Host", "Hosts", "OnEnded", "clients_of", "transfer"]

Host = str | HostConfig | SSHConfig | SSHClient
Hosts = str | Iterable[Host]
OnEnded = Callable[[HostTransfer], None]


def transfer(
    clients: list[SSHClient],
    work: Work,
    options: Options,
    on_progress: OnProgress | None,
    on_ended: OnEnded | None,
) -> TransferResult:
    """Do ``work`` for each host; the results are in the order of ``clients``.

    :raises KeyboardInterrupt: Ctrl-C; what was under way was ended.
    """
    stop = Stop()
    ended: dict[str, HostTransfer] = {}

    def do(client: SSHClient) -> HostTransfer:
        return _done(Haul(client, options, stop, on_progress), work)

    for client, result in each(clients, do, options.fanout, on_interrupt=stop.set):
        ended[client.config.id] = result
        if on_ended is not None:
            on_ended(result)
    return TransferResult(tuple(ended[client.config.id] for client in clients))


@contextlib.contextmanager
def clients_of(hosts: Hosts) -> Iterator[list[SSHClient]]:
    """A client for each host, in the order given; those that were made here are closed.

    :raises UsageError: a selector that means nothing, no host at all, or two of one name.
    """
    given = _selected(hosts) if isinstance(hosts, str) else list(hosts)
    clients = [_client(host) for host in given]
    names = [client.config.id for client in clients]
    if not clients:
        raise UsageError("hosts: there is none")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"hosts: {twice!r} is there twice")
    try:
        yield clients
    finally:
        for host, client in zip(given, clients, strict=True):
            if not isinstance(host, str | SSHClient):
                client.close_link()


def _selected(selector: str) -> list[Host]:
    inventory = load_inventory()
    return [inventory.hosts[name] for name in select(selector, inventory)]


def _client(host: Host) -> SSHClient:
    if isinstance(host, SSHClient):
        return host
    if isinstance(host, HostConfig):
        return SSHClient(SSHConfig.from_host_config(host))
    if isinstance(host, SSHConfig):
        return SSHClient(host)
    if isinstance(host, str):
        from ..registry import get_ssh_client

        return get_ssh_client(host)
    raise TypeError(f"hosts: expected a name, a config or a client, got {type(host).__name__}")


def _done(haul: Haul, work: Work) -> HostTransfer:
    try:
        if haul.stop.is_set:
            raise TransferError("interrupted", 130)
        work(haul)
    except TransferError as error:
        return haul.ended(error.returncode, f"{haul.host}: {error}")
    except UsageError:
        raise
    except RingtasksError as error:  # a key file that is missing on one host, say
        return haul.ended(255, str(error))
    return haul.ended()
