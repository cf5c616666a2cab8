"""Paths on the host as text for its shell (pure)."""

from __future__ import annotations

import posixpath
import re

from ringtasks.errors import UsageError
from ringtasks.inventory.config import SSHConfig

from .script import path, quote

__all__ = ["above", "is_glob", "joined", "name_of", "on_host", "word", "words"]

_GLOB = re.compile(r"([*?]|\[[^]/]+\])")


def on_host(config: SSHConfig, remote: str) -> str:
    """``remote`` from the root or the home: a relative path is below the host's ``work_dir``.

    :raises UsageError: it is empty, or holds a NUL.
    """
    if not remote or "\0" in remote:
        raise UsageError(f"expected a path on the host, got {remote!r}")
    if remote.startswith(("/", "~/")) or remote == "~":
        return remote
    base = config.work_dir or "~"
    if not base.startswith(("/", "~")):
        base = f"~/{base}"
    return f"{base.rstrip('/')}/{remote}"


def word(place: str) -> str:
    """``place`` as one literal word."""
    return path(place)


def words(place: str) -> str:
    """``place`` as a word whose wildcards the shell expands."""
    head, rest = ("~/", place[2:]) if place.startswith("~/") else ("", place)
    parts = _GLOB.split(rest)
    # Odd places are what the expression matched.
    text = "".join(part if number % 2 else quote(part) for number, part in enumerate(parts) if part)
    return '"$HOME"/' + text if head else text


def is_glob(place: str) -> bool:
    """Whether it has a wildcard."""
    return bool(_GLOB.search(place))


def joined(folder: str, name: str) -> str:
    """``name`` in ``folder``."""
    return f"{folder.rstrip('/')}/{name}" if folder != "/" else f"/{name}"


def above(place: str) -> str:
    """The folder that it is in."""
    return posixpath.dirname(place.rstrip("/")) or "/"


def name_of(place: str) -> str:
    """Its last name; empty where it has none of its own (``/``, ``~``, ``..``)."""
    name = posixpath.basename(place.rstrip("/"))
    return "" if name in (".", "..", "~") else name
