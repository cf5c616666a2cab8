"""Stable links to masters' sockets, for the ``ControlPath`` of OpenSSH's own clients.

A link's name is made from the host's name and the user, so that an ``ssh`` with another user does
not use it.  It leads to the last trusted master, and is replaced atomically.  An ``ssh`` that finds
it asks no other program, so each task that looks at the host checks it (`lookup`): once the host's
pins or routes have changed, it is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ringtasks.common.digest import digest
from ringtasks.errors import StateFileError
from ringtasks.inventory.host_settings import SSHConfig

from .folder import NAME_BYTES, control_folder
from .records import Master

__all__ = [
    "client_control_path", "drop_link", "keep_link", "linked_hosts", "remove_dead_links",
    "sockets",
]  # fmt: skip

_PREFIX = "h-"
_DIGITS = 12
_BEGINNING_LENGTH = len(_PREFIX) + _DIGITS + 1
_PLAIN_USER = r"[A-Za-z0-9_.][A-Za-z0-9_.-]*\Z"


def client_control_path(config: SSHConfig) -> str:
    """Return the ``ControlPath`` for a host; ssh puts the user's name in place of ``%r``.

    :raises StateFileError: the folder of the sockets cannot be used.
    """
    folder = str(control_folder()).replace("%", "%%")
    return f"{folder}/{_beginning(config)}%r"


def keep_link(config: SSHConfig, master: Master) -> None:
    """Point the host's link to a master, if the user's name can be part of a file name."""
    link = _link(config, master.socket.parent)
    if link is None:
        return
    with contextlib.suppress(OSError):
        if os.readlink(link) == master.socket.name:  # noqa: PTH115  # fast
            return
    draft = link.with_name(f"{link.name}.{os.urandom(3).hex()}")
    with contextlib.suppress(OSError):  # ssh then logs in by itself
        draft.symlink_to(master.socket.name)
        draft.replace(link)


def linked_hosts(configs: Iterable[SSHConfig]) -> list[SSHConfig]:
    """Return the hosts that have a link."""
    try:
        beginnings = {link.name[:_BEGINNING_LENGTH] for link in _links(control_folder(), _PREFIX)}
    except (StateFileError, OSError):
        return []
    return [config for config in configs if beginnings and _beginning(config) in beginnings]


def sockets(config: SSHConfig, folder: Path) -> set[str]:
    """Return the names of the sockets to which the host's links lead."""
    found = set()
    for link in _links(folder, _beginning(config)):
        with contextlib.suppress(OSError):
            found.add(os.readlink(link))  # noqa: PTH115  # text, not a Path
    return found


def drop_link(config: SSHConfig, folder: Path) -> None:
    """Remove the host's links: no master is trusted now."""
    for link in _links(folder, _beginning(config)):
        with contextlib.suppress(OSError):
            link.unlink()


def _links(folder: Path, beginning: str) -> list[Path]:
    """Return the links whose names begin so; `Path.glob` would compile a pattern each time."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  # names, not paths
    except FileNotFoundError:
        return []
    return [folder / name for name in names if name.startswith(beginning)]


def remove_dead_links(folder: Path) -> None:
    """Remove the links to sockets that are gone."""
    for link in _links(folder, _PREFIX):
        if not link.exists():
            with contextlib.suppress(OSError):
                link.unlink()


def _link(config: SSHConfig, folder: Path) -> Path | None:
    user = config.user or _default_user(config)
    name = f"{_beginning(config)}{user}"
    # A longer path would not fit into a socket's address.
    return folder / name if re.match(_PLAIN_USER, user) and len(name) <= NAME_BYTES else None


def _default_user(config: SSHConfig) -> str:
    import getpass  # the inventory names most users

    from ringtasks.ssh.evaluated_config import settings_of

    return settings_of(config).get("user") or getpass.getuser()


def _beginning(config: SSHConfig) -> str:
    return f"{_PREFIX}{digest(config.id, _DIGITS)}-"
