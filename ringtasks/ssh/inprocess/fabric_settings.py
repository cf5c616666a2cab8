"""Fabric's default settings with ``~/.ssh/config``, read once for all links until it changes.

Fabric merges its settings for each Connection: a third of the cost of a cold connection.  The
object is shared, so it is for links only, which change nothing in it; each Connection that a user
makes has its own.  Fabric's own files (``~/.fabric.yaml``) are for those alone: `SSHClient` and the
tasks do not read them, over either kind of link.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import fabric
import paramiko

from ringtasks.common import one_look
from ringtasks.errors import UsageError
from ringtasks.ssh import openssh
from ringtasks.ssh.paramiko_private import rules_of
from ringtasks.ssh.settings_files import NO_FILE, files_of, version_of

from .fabric_private import mark_as_root, runtime_ssh_file

__all__ = ["NoFileError", "fabric_config", "shared_settings", "ssh_file_of"]


#: Paramiko's errors for a file; the second is for its quotes.
_UNREADABLE = (paramiko.ConfigParseError, ValueError)


class NoFileError(Exception):
    """The settings do not come from a file that ssh could read."""


def fabric_config(config: Any, file: str | None) -> fabric.Config:
    """Return the configuration of a Connection: the caller's own object, if it is one of Fabric's.

    :param file: `SSHConfig.ssh_config_file`, for a new one.
    """
    if config is not None:
        return config if isinstance(config, fabric.Config) else config.clone(into=fabric.Config)
    return _made(file, lazy=False)


@one_look.kept
def shared_settings(file: str | None = None) -> fabric.Config:
    """Return the current settings of this user on this machine. Not to be changed.

    :param file: `SSHConfig.ssh_config_file`.
    :raises FileNotFoundError: the file does not exist.
    """
    return _settings(file, tuple((path, version_of(path)) for path in files_of(file)))


def ssh_file_of(settings: fabric.Config, file: str | None) -> str | None:
    """Return the ssh_config file that ``settings`` were read from, as `SSHConfig.ssh_config_file`.

    A copy of a Config does not name its file, so its settings are compared with the file's.

    :param file: the file that the host names.
    :raises NoFileError: there is no such file: the settings are of an SSHConfig object of the
        caller's own, or the file has changed.
    """
    rules = rules_of(settings.base_ssh_config)
    for known in (file, None, NO_FILE, runtime_ssh_file(settings)):
        with contextlib.suppress(FileNotFoundError):
            if rules == rules_of(shared_settings(known).base_ssh_config):
                return None if known is None else str(known)
    raise NoFileError


@functools.lru_cache(maxsize=8)
def _settings(file: str | None, _versions: tuple[object, ...]) -> fabric.Config:
    return _made(file, lazy=True)


def _made(file: str | None, *, lazy: bool) -> fabric.Config:
    """Return new settings with those of ssh's files.

    :param lazy: leave out Fabric's own files.
    """
    try:
        if file == NO_FILE:
            made = fabric.Config(lazy=lazy, overrides={"load_ssh_configs": False})
        else:
            made = fabric.Config(lazy=lazy, runtime_ssh_path=file)
        if lazy:
            made.load_ssh_config()
    except _UNREADABLE as error:
        made = fabric.Config(lazy=lazy, ssh_config=_unread(file, error))
    mark_as_root(made)
    return made


def _unread(file: str | None, error: Exception) -> paramiko.SSHConfig:
    """Return rules in place of those of a file that only OpenSSH understands (``Match final all``).

    They name no host, and are equal for the same file only: `ssh_file_of` compares them.

    :raises UsageError: there is no ssh that could be asked for the file's meaning.
    """
    if not openssh.is_usable():
        raise UsageError(
            f"ssh's configuration cannot be read without ssh: {error}: install OpenSSH's client"
        ) from error
    return paramiko.SSHConfig.from_text(f"Host unread.invalid\n  HostName {file or 'usual'}\n")
