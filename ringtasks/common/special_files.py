"""Pipes, sockets and devices: entries of the file system that are neither files nor folders.

A file that is renamed to such a name takes its place: then programs that use ``/dev/null`` fill it.
"""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path

__all__ = ["is_descriptor", "refuse_to_replace", "special_kind"]

#: Names of the descriptors that this process was started with.
_DESCRIPTOR = re.compile(r"/dev/(std(in|out|err)|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_kind(path: Path) -> str | None:
    """Return the kind of a pipe, a socket or a device; None if it is none, or missing.

    :raises OSError: it cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)


def is_descriptor(path: Path) -> bool:
    """Return True for a name such as ``/dev/stdin``, which may lead to a file of any kind."""
    return _DESCRIPTOR.fullmatch(str(path)) is not None


def refuse_to_replace(path: Path) -> None:
    """Check that a file may take this name.

    :raises OSError: it belongs to a pipe, a socket, a device or an open descriptor.
    """
    kind = "an open descriptor" if is_descriptor(path) else special_kind(path)
    if kind is not None:
        raise OSError(errno.EEXIST, f"is {kind}, which a file does not replace: give another name")
