"""Opening a link to a host over its control master: the existing one, else a new one.

Every command looks for a master, so the code for a new one is imported only when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ringtasks.errors import Reason, RouteError, StateFileError, UnreachableError
from ringtasks.inventory.config import SSHConfig

from .eligibility import refusal_reason
from .handshake import answer_of
from .link import MuxLink
from .lookup import find

if TYPE_CHECKING:  # imported while the remote command runs (`link_pool.prepare`)
    from ringtasks.health.model import HostOutcome
    from ringtasks.health.notes import HealthRecorder
    from ringtasks.ssh.routes import Route
    from ringtasks.ssh.ways import FindWay

__all__ = ["fresh_link", "log_in", "open_link"]


def open_link(
    config: SSHConfig,
    transport: str | None,
    note: Callable[[HostOutcome], None],
    recorder: HealthRecorder | None = None,
    find_way: FindWay | None = None,
) -> MuxLink | None:
    """Open the link; None: no control master can hold this connection: keep it in process.

    :param note: if a master was started, receives the routes that failed, and the one that works.
    :param recorder: the health of the routes; None: the health file.
    :param find_way: see `LogIn`.
    :raises UnreachableError: no route works.
    :raises UsageError: the configuration cannot be used.
    """
    if refusal_reason(config, os.environ) is not None:
        return None
    return find(config, transport) or log_in(config, transport, note, recorder, find_way)


def log_in(
    config: SSHConfig,
    transport: str | None,
    note: Callable[[HostOutcome], None],
    recorder: HealthRecorder | None = None,
    find_way: FindWay | None = None,
) -> MuxLink | None:
    """Open a link over a new control master; None: no master can hold this connection.

    The parameters and errors are those of `open_link`.
    """
    from .log_in import LogIn

    try:
        return LogIn(config, transport, note, recorder, find_way).run()
    except UnreachableError:
        raise
    except (StateFileError, OSError):  # an untrusted folder, or a full disk
        return None


@contextlib.contextmanager
def fresh_link(config: SSHConfig, route: Route) -> Iterator[MuxLink]:
    """Log in anew over one route, with the ssh that commands use; the master ends with the block.

    :raises RouteError: the route fails, or the log-in is refused.
    :raises UsageError: the configuration cannot be used.
    """
    from ringtasks.ssh.patience import Patience

    from .master import retire
    from .start import start

    name = secrets.token_hex(10)  # as long as `control_name`, so that no other process finds it
    master = start(config, route, name, Patience(config, config.connect_timeout))
    try:
        control = answer_of(master)
        if control is None:
            raise RouteError(config.id, route.name, Reason.LINK_LOST, "the control master has gone")
        with contextlib.closing(MuxLink(config, master, control)) as link:
            yield link
    finally:
        retire(master)
