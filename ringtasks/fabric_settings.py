"""Fabric's settings and ``~/.ssh/config``, read once for all links until one of the files changes.

Fabric reads a dozen files and merges them for each Connection: a third of what a cold connection
costs.  The object is shared, so it is for links only, which change nothing in it; the Connections
that users make have each their own.
"""

from __future__ import annotations

import functools
import os

import fabric

from .remote_runner import Remote

__all__ = ["shared_settings"]

#: fabric.Config, ``system_prefix`` and ``user_prefix``; paramiko has no Include to follow.
_FILES = (
    "/etc/ssh/ssh_config",
    "~/.ssh/config",
    *(f"{prefix}fabric.{kind}" for prefix in ("/etc/", "~/.") for kind in ("yaml", "yml", "json")),
    "/etc/fabric.py",
    "~/.fabric.py",
)


def shared_settings() -> fabric.Config:
    """The settings of this user on this machine, as they are now. Not to be changed."""
    home = os.environ.get("HOME", "~")
    return _settings(tuple(_version(file.replace("~", home, 1)) for file in _FILES))


@functools.lru_cache(maxsize=1)
def _settings(_versions: tuple[object, ...]) -> fabric.Config:
    settings = fabric.Config()
    settings.runners.remote = Remote
    # What is true of a root, said: Invoke finds out by failing, 40 µs for each look at a section.
    settings._set(_root=settings, _keypath=())
    return settings


def _version(path: str) -> object:
    try:
        status = os.stat(path)  # noqa: PTH116  # half the time of Path.stat, for each connection
    except OSError:
        return path
    return path, status.st_ino, status.st_size, status.st_mtime_ns
