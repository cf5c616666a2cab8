"""Opening a link to a host over its control master: the existing one, else a new one.

Every command looks for a master, so the code for a new one is imported only when it is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ringtasks.errors import Reason, RouteError, StateFileError, UnreachableError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.openssh import why_no_master

from .control import answer_of
from .link import MuxLink
from .lookup import find

if TYPE_CHECKING:  # imported while the remote command runs (`link_pool.prepare`)
    from ringtasks.health.model import HostOutcome
    from ringtasks.health.recorder import HealthRecorder
    from ringtasks.ssh.dialing import FindWay

__all__ = ["fresh_link", "log_in", "open_link"]

T = TypeVar("T")


def open_link(
    config: SSHConfig,
    transport: str | None,
    note: Callable[[HostOutcome], None],
    find_way: FindWay,
) -> MuxLink | None:
    """Open the link; None: no control master can hold this connection: keep it in process.

    :param note: if a master was started, receives the routes that failed, and the one that works.
    :param find_way: see `LogIn`.
    :raises UnreachableError: no route works.
    :raises UsageError: the configuration cannot be used.
    """
    if why_no_master(config) is not None:
        return None
    return find(config, transport) or log_in(config, transport, note, None, find_way)


def log_in(
    config: SSHConfig,
    transport: str | None,
    note: Callable[[HostOutcome], None],
    recorder: HealthRecorder | None,
    find_way: FindWay,
) -> MuxLink | None:
    """Open a link over a new control master; None: no master can hold this connection.

    The other parameters and the errors are those of `open_link`.

    :param recorder: the health of the routes; None: the health file.
    """
    from .log_in import LogIn

    return _unless_impossible(LogIn(config, transport, note, recorder, find_way).run)


@contextlib.contextmanager
def fresh_link(
    config: SSHConfig, transport: str | None, find_way: FindWay
) -> Iterator[MuxLink | None]:
    """Log in anew, as `open_link` does; the master ends with the block.

    None: no control master can hold this connection.

    :param find_way: see `LogIn`.
    :raises UnreachableError: no route works.
    :raises UsageError: the configuration cannot be used.
    """
    from .log_in import log_in_anew
    from .running_masters import retire

    master = _unless_impossible(lambda: log_in_anew(config, transport, find_way))
    if master is None:
        yield None
        return
    try:
        control = answer_of(master)
        if control is None:
            gone = "the control master has gone"
            failure = RouteError(config.id, master.route, Reason.LINK_LOST, gone, master.address)
            raise UnreachableError(config.id, (failure,))
        with contextlib.closing(MuxLink(config, master, control)) as link:
            yield link
    finally:
        retire(master)


def _unless_impossible(log_in: Callable[[], T | None]) -> T | None:
    """Return the result of a log-in; None: the folder of the sockets cannot be used.

    An untrusted folder is named in a notice: connections are not shared, which is slower but works.
    """
    try:
        return log_in()
    except UnreachableError:
        raise
    except StateFileError as error:
        from ringtasks.common.alarms import notify

        # The folder is that of all hosts: one notice for a fleet.
        notify("this machine", f"no control masters: {error}; connecting in process")
    except OSError:  # a full disk
        pass
    return None
