"""The hosts of a transfer, each with its own part, at most ``fanout`` at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ringtasks.client.ssh_client import SSHClient
from ringtasks.client.targets import Hosts, targets_of
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.fanout import each
from ringtasks.common.threads import translated
from ringtasks.errors import RingtasksError, UsageError
from ringtasks.exit_status import INTERRUPTED, UNREACHABLE, USAGE

from .host_transfer import HostCopy, HostTransferError
from .one_host import Work
from .options import Options
from .results import HostTransfer, OnProgress, TransferResult

__all__ = ["Hosts", "OnEnded", "clients_of", "transfer"]

OnEnded = Callable[[HostTransfer], None]


def transfer(
    clients: list[SSHClient],
    work: Work,
    options: Options,
    on_progress: OnProgress | None,
    on_ended: OnEnded | None,
) -> TransferResult:
    """Do ``work`` for each host; the results are in the order of ``clients``.

    :raises KeyboardInterrupt: Ctrl-C; the running transfers were ended.
    """
    stop = Cancellation()
    ended: dict[str, HostTransfer] = {}

    def do(client: SSHClient) -> HostTransfer:
        return _done(HostCopy(client, options, stop, on_progress), work, is_alone=len(clients) == 1)

    for client, result in each(clients, do, options.fanout, on_interrupt=stop.cancel):
        ended[client.config.id] = result
        if on_ended is not None:
            on_ended(result)
    return TransferResult(tuple(ended[client.config.id] for client in clients))


@contextlib.contextmanager
def clients_of(hosts: Hosts) -> Iterator[list[SSHClient]]:
    """Yield a client for each of `targets_of`; those that were made here are closed.

    :raises UsageError: a selector that matches nothing, no host at all, or two of one name.
    """
    targets = targets_of(hosts)
    clients = [host if isinstance(host, SSHClient) else SSHClient(host) for host in targets]
    try:
        yield clients
    finally:
        for client in clients:
            if client not in targets:
                client.close_link()


def _done(host_copy: HostCopy, work: Work, *, is_alone: bool) -> HostTransfer:
    try:
        if host_copy.stop.is_cancelled:
            raise HostTransferError("interrupted", INTERRUPTED)
        with translated():
            work(host_copy)
    except HostTransferError as error:
        return host_copy.ended(error.returncode, f"{host_copy.host}: {error}")
    except RingtasksError as error:
        is_usage = isinstance(error, UsageError)  # for example, a key file that is missing
        if is_usage and is_alone:
            raise
        told = str(error).removeprefix(f"{host_copy.host}: ")  # ssh's configuration is of no host
        return host_copy.ended(USAGE if is_usage else UNREACHABLE, f"{host_copy.host}: {told}")
    return host_copy.ended()
