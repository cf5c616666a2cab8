"""The record of a master: a file beside its socket, for processes that come later.

Each start has a socket of its own, ``<connection>.<start>``, and a record of the same name:

* ``….json`` while the master may be used;
* ``….old`` once it may not: it runs out, or is ended.

``<connection>.now`` is a link to the name of the last start, so that the look-up of a master does
not list the folder.

A master that ends removes the path that it was given, even if another process listens there by
then: hence no two starts share a path.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.light_typing import NamedTuple
from ringtasks.ssh.host_keys import HostKey, Pins

from .folder import NAME_BYTES

__all__ = [
    "Master",
    "current",
    "discard",
    "is_known",
    "last_started",
    "new_socket",
    "orphans",
    "read",
    "retired",
    "withdraw",
    "write",
]

_NAME = r"[0-9a-f]{20}\.[0-9a-f]{6}\Z"
_RECORD = r"[0-9a-f]{20}\.[0-9a-f]{6}\.(json|old)\Z"
_RECORD_BYTES = 64 * 1024  # longer than any record


class Master(NamedTuple):
    """A control master: the connection that it holds, and the process that holds it."""

    socket: Path
    host: str
    route: str
    address: str
    pid: int
    started_at: float
    """Unix seconds."""
    pins: Pins = Pins()
    """The host's known keys at the time of the log-in."""


def new_socket(folder: Path, name: str) -> Path:
    """Return a path for the next start."""
    return folder / f"{name}.{os.urandom(3).hex()}"


def write(master: Master) -> None:
    """Make it available to other processes; the change is atomic."""
    from ringtasks.common.atomic_file import replace_file  # most runs write none

    fields = master._asdict() | {"socket": master.socket.name}
    partial = Path(f"{master.socket}.new")
    replace_file(Path(f"{master.socket}.json"), json.dumps(fields), draft=partial)
    partial.symlink_to(master.socket.name)
    partial.replace(pointer(master.socket.with_suffix("")))


def pointer(connection: Path) -> Path:
    """Return the link of a connection: ``connection`` is its folder and name."""
    return Path(f"{connection}.now")


def last_started(folder: Path, name: str) -> Master | None:
    """Return the last started master of a connection, if it may be used."""
    try:
        socket = os.readlink(f"{folder}/{name}.now")  # noqa: PTH115  # on the way of every command
    except OSError:
        return None
    return read(f"{folder}/{socket}.json") if re.match(_NAME, socket) else None


def read(record: str | os.PathLike[str]) -> Master | None:
    """Return the recorded master; None: it is gone, or not a record of ours."""
    try:
        fields = json.loads(_contents(record))
        fields["socket"] = Path(os.fspath(record).rpartition(".")[0])
        *lists, needs_certificate, is_strict = fields["pins"]
        keys, revoked, authorities = (tuple(HostKey(*key) for key in each) for each in lists)
        fields["pins"] = Pins(keys, revoked, authorities, needs_certificate, is_strict)
        return Master(**fields)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _contents(record: str | os.PathLike[str]) -> bytes:
    descriptor = os.open(record, os.O_RDONLY)  # half the system calls of an open file
    try:
        return os.read(descriptor, _RECORD_BYTES)
    finally:
        os.close(descriptor)


def current(folder: Path, name: str = "") -> Iterator[Master]:
    """Return the masters that may be used: of one connection, or of all."""
    return _recorded(folder, f"{name or '*'}.*.json")


def retired(folder: Path) -> Iterator[Master]:
    """Return the masters that may not be used any more, and whose end is not verified."""
    return _recorded(folder, "*.old")


def _recorded(folder: Path, pattern: str) -> Iterator[Master]:
    for record in sorted(folder.glob(pattern)):
        master = read(record) if re.match(_RECORD, record.name) else None
        if master is not None:
            yield master


def orphans(folder: Path) -> list[Path]:
    """Return sockets without a record, or their leftovers: a start runs, or was cut short."""
    entries = {path.name for path in folder.iterdir()}
    sockets = {entry[:NAME_BYTES] for entry in entries if re.match(_NAME, entry[:NAME_BYTES])}
    return [
        folder / socket
        for socket in sorted(sockets)
        if f"{socket}.json" not in entries and f"{socket}.old" not in entries
    ]


def is_known(socket: Path) -> bool:
    """Return True if there is a record of it."""
    return Path(f"{socket}.json").exists() or Path(f"{socket}.old").exists()


def withdraw(master: Master) -> None:
    """Prevent all further use of it."""
    with contextlib.suppress(OSError):  # already gone, or a full or read-only disk
        Path(f"{master.socket}.json").rename(f"{master.socket}.old")


def discard(socket: Path) -> None:
    """Remove a socket and all files beside it."""
    for path in socket.parent.glob(f"{socket.name}*"):  # a name has no wildcard characters
        with contextlib.suppress(OSError):
            path.unlink()
