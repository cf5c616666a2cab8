"""Stable links to masters' sockets, for the ``ControlPath`` of OpenSSH's own clients.

A link's name is made from the host's name and the user, so that an ``ssh`` with another user does
not use it.  It leads to the last trusted master; it is replaced atomically, and removed once the
host's pins or routes have changed.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import re
from pathlib import Path

from ringtasks.inventory.config import SSHConfig
from ringtasks.ssh.ssh_config import settings_of

from .folder import NAME_BYTES, control_folder
from .records import Master

__all__ = ["client_control_path", "drop_link", "remove_dead_links", "set_link"]

_PREFIX = "h-"
_DIGITS = 12
_PLAIN_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*\Z")


def client_control_path(config: SSHConfig) -> str:
    """Return the ``ControlPath`` for a host; ssh puts the user's name in place of ``%r``.

    :raises StateFileError: the folder of the sockets cannot be used.
    """
    folder = str(control_folder()).replace("%", "%%")
    return f"{folder}/{_beginning(config)}%r"


def set_link(config: SSHConfig, master: Master) -> None:
    """Let the host's link lead to a master, if the user's name can be part of a file name."""
    link = _link(config, master.socket.parent)
    if link is None:
        return
    draft = link.with_name(f"{link.name}.{os.urandom(3).hex()}")
    with contextlib.suppress(OSError):  # ssh then logs in by itself
        draft.symlink_to(master.socket.name)
        draft.replace(link)


def drop_link(config: SSHConfig, folder: Path) -> None:
    """Remove the host's links: no master is trusted now."""
    for link in folder.glob(f"{_beginning(config)}*"):
        with contextlib.suppress(OSError):
            link.unlink()


def remove_dead_links(folder: Path) -> None:
    """Remove the links to sockets that are gone."""
    for link in folder.glob(f"{_PREFIX}*"):
        if not link.exists():
            with contextlib.suppress(OSError):
                link.unlink()


def _link(config: SSHConfig, folder: Path) -> Path | None:
    told = settings_of(config)
    user = config.user or (told and told.get("user")) or getpass.getuser()
    name = f"{_beginning(config)}{user}"
    # A longer path would not fit into a socket's address.
    return folder / name if _PLAIN_USER.match(user) and len(name) <= NAME_BYTES else None


def _beginning(config: SSHConfig) -> str:
    return f"{_PREFIX}{hashlib.sha256(config.id.encode()).hexdigest()[:_DIGITS]}-"
