"""The look-up of the master that may be used for a connection; every command runs it.

A connection has a name: a hash over everything that distinguishes it from another.  A master is
used only if it answers, and only if the keys that it trusted are the pinned ones now.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace

from ringtasks.common import rehearsal
from ringtasks.errors import HostKeyError, StateFileError, UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.pins import KnownHosts

from . import client_links, records
from .control import answer_of, answers
from .folder import control_folder
from .identity import control_name
from .link import MuxLink
from .records import Master

__all__ = ["drop_stale_link", "drop_stale_links", "find", "usable_master", "without_new_master"]


def find(config: SSHConfig, transport: str | None = None) -> MuxLink | None:
    """Return a link over the responsive master for this connection, or None.

    A master that is gone, hung or no longer trusted is put aside, and ended if that harms no
    session.  In a folder that cannot be used there is no master of ours.
    """
    try:
        folder = control_folder()
        master = records.last_started(folder, control_name(config, transport, os.environ))
        if master is None:
            return None
        control = answer_of(master) if _is_trusted(master, config) else None
        if control is not None:
            if transport is None and rehearsal.current() is None:
                client_links.keep_link(config, master)
            return MuxLink(config, master, control)
        from .running_masters import put_aside_unless_starting

        put_aside_unless_starting(master)
    except (StateFileError, OSError):  # an untrusted folder, or a full disk
        pass
    return None


def without_new_master(config: SSHConfig, transport: str | None) -> SSHConfig:
    """Return ``config``, changed so that it uses a running master but starts none.

    A log-in for a new one takes ten times that of an in-process link.
    """
    if not config.use_control_master or config.embedded:
        return config
    link = find(config, transport)
    if link is None:
        return replace(config, use_control_master=False)
    link.close()
    return config


def usable_master(config: SSHConfig) -> Master | None:
    """Return the master that `find` would use; unlike it, put none aside."""
    with contextlib.suppress(StateFileError, OSError):
        name = control_name(config, None, os.environ)
        master = records.last_started(control_folder(), name)
        if master is not None and _is_trusted(master, config) and answers(master):
            return master
    return None


def drop_stale_links(configs: Iterable[SSHConfig]) -> None:
    """`drop_stale_link` for many hosts, most of which have no link."""
    for config in client_links.linked_hosts(configs):
        if config.fault is None and not config.embedded:
            drop_stale_link(config)


def drop_stale_link(config: SSHConfig) -> Master | None:
    """Remove a host's link for OpenSSH's clients if its master has other routes, keys or pins.

    Return that master, which ``ssh`` would have used until now; None: there is no such link.
    """
    if rehearsal.current() is not None:  # its connections have names of their own
        return None
    try:
        folder = control_folder()
        found = client_links.sockets(config, folder)
        name = control_name(config, None, os.environ) if found else ""
    except (StateFileError, OSError, UsageError):
        return None
    for socket in found:
        master = records.read(f"{folder}/{socket}.json")
        if master is None or (socket.startswith(f"{name}.") and _is_trusted(master, config)):
            continue
        client_links.drop_link(config, folder)
        return master if master.socket.exists() else None
    return None


def _is_trusted(master: Master, config: SSHConfig) -> bool:
    """Return True if the keys that it trusted are the pinned ones now."""
    try:
        return KnownHosts().pins(config) == master.pins
    except HostKeyError:  # the next log-in is refused, and gives the reason
        return False
