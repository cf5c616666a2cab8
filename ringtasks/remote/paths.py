"""Paths on the host, as text for its shell.  Pure."""

from __future__ import annotations

import posixpath
import re

from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig

from .globs import GLOB, unquoted
from .script import quote

__all__ = ["above", "checked", "is_glob", "joined", "name_of", "on_host", "quoted_pattern"]


# ``~user`` of scp and of shells; only a shell on the host can tell its folder, and SFTP cannot.
_OTHER_HOME = re.compile(r"~[A-Za-z_][\w.-]*(/|\Z)", re.ASCII)


def on_host(config: SSHConfig, remote: str) -> str:
    """Return ``remote`` from the root or the home; a relative path is below ``work_dir``.

    :raises UsageError: see `checked`.
    """
    if checked(remote).startswith(("/", "~/")) or remote == "~":
        return remote
    base = config.work_dir or "~"
    if not base.startswith(("/", "~")):
        base = f"~/{base}"
    return f"{base.rstrip('/')}/{remote}"


def checked(remote: str) -> str:
    """Return the path unchanged.

    :raises UsageError: it is empty, holds a NUL, or begins with the home of a named user.
    """
    if not remote or "\0" in remote:
        raise UsageError(f"expected a path on the host, got {remote!r}")
    if _OTHER_HOME.match(remote):
        told = "only '~' and '~/' stand for a home; give the folder's full path"
        raise UsageError(f"{remote}: {told}, or ./{remote} for this name")
    return remote


def quoted_pattern(place: str) -> str:
    """Return ``place`` as a word whose wildcards the shell expands."""
    if place == "~":
        return '"$HOME"'
    head, rest = ("~/", place[2:]) if place.startswith("~/") else ("", place)
    parts = GLOB.split(rest)
    # The parts at odd indexes are matches of the expression.
    text = "".join(
        unquoted(part) if number % 2 else quote(part) for number, part in enumerate(parts) if part
    )
    return '"$HOME"/' + text if head else text


def is_glob(place: str) -> bool:
    """Return True if ``place`` has a wildcard."""
    return bool(GLOB.search(place))


def joined(folder: str, name: str) -> str:
    """Return the path of ``name`` in ``folder``."""
    return f"{folder.rstrip('/')}/{name}" if folder != "/" else f"/{name}"


def above(place: str) -> str:
    """Return the folder that holds ``place``."""
    return posixpath.dirname(place.rstrip("/")) or "/"


def name_of(place: str) -> str:
    """Return the last name of ``place``; empty if it has none of its own (``/``, ``~``, ``..``).

    Below another folder, ``~`` is a name.
    """
    name = posixpath.basename(place.rstrip("/"))
    return "" if name in (".", "..") or place.rstrip("/") == "~" else name
