"""The way to a host that Fabric's settings and ``~/.ssh/config`` determine."""

from __future__ import annotations

from collections.abc import Callable

from ringtasks.common.light_typing import NamedTuple
from ringtasks.inventory.host_settings import SSHConfig

from .dialing import Gateway

__all__ = ["FindWay", "KnownWay"]


class KnownWay(NamedTuple):
    """A host's address, and the gateway to it.

    ``is_open_to_ssh`` False: the way was not looked for, so no ssh can be told it.
    """

    config: SSHConfig
    gateway: Gateway | None = None
    close_gateway: Callable[[], None] = lambda: None
    is_open_to_ssh: bool = True


#: Returns the way to a host over any route, or over the named one.
FindWay = Callable[[SSHConfig, str | None], KnownWay]
