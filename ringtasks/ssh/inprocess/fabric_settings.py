"""Fabric's default settings with ``~/.ssh/config``, read once for all links until it changes.

Fabric merges its settings for each Connection: a third of what a cold connection costs.  The object
is shared, so it is for links only, which change nothing in it; the Connections that users make have
each their own.  Fabric's own files (``~/.fabric.yaml``) are for those alone: `SSHClient` and the
tasks do not read them, over either kind of link.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import fabric

__all__ = ["fabric_config", "shared_settings", "ssh_file_of"]

_FILES = ("/etc/ssh/ssh_config", "~/.ssh/config")  # Paramiko has no Include to follow


def fabric_config(config: Any) -> fabric.Config:
    """The configuration of a Connection: the caller's own object, if it is one of Fabric's."""
    if config is None:
        return fabric.Config()
    return config if isinstance(config, fabric.Config) else config.clone(into=fabric.Config)


def shared_settings() -> fabric.Config:
    """The settings of this user on this machine, as they are now. Not to be changed."""
    home = os.environ.get("HOME", "~")
    return _settings(tuple(_version(file.replace("~", home, 1)) for file in _FILES))


def ssh_file_of(settings: fabric.Config) -> str | None:
    """Return the ssh_config file that Fabric was told to read; "" for the usual ones.

    None if Fabric reads no file, or OpenSSH cannot be asked: for an SSHConfig object of the
    caller's own, or other places of the usual files.
    """
    if settings._given_explicit_object:
        return None
    if settings._runtime_ssh_path:
        return os.path.expanduser(str(settings._runtime_ssh_path))  # noqa: PTH111
    usual = ("~/.ssh/config", "/etc/ssh/ssh_config")
    is_usual = (settings._user_ssh_path, settings._system_ssh_path) == usual
    return "" if settings.load_ssh_configs and is_usual else None


@functools.lru_cache(maxsize=1)
def _settings(_versions: tuple[object, ...]) -> fabric.Config:
    settings = fabric.Config(lazy=True)
    settings.load_ssh_config()
    # What is true of a root, said: Invoke finds out by failing, 40 µs for each look at a section.
    settings._set(_root=settings, _keypath=())
    return settings


def _version(path: str) -> object:
    try:
        status = os.stat(path)  # noqa: PTH116  # half the time of Path.stat, for each connection
    except OSError:
        return path
    return path, status.st_ino, status.st_size, status.st_mtime_ns
