"""OpenSSH configuration by which every ``ssh`` reaches the hosts as ringtasks does.  Pure.

A host's block names no address: `ringtasks.client.connect` looks it up at each connection.  Names,
users and paths come from a hosts file, so a value that ssh could read as anything else is refused,
and the host is left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig

from .option_values import path_value, percent, quoted
from .ssh_command import identity_file, pin_options

__all__ = ["HEADER", "ClientFiles", "block_of"]

HEADER = "# Written by ringtasks ssh-config. Addresses are looked up at each connection.\n"

#: No pattern (``*``, ``?``), no quote, no - in front: such a name is one word to ssh, to a
#: shell and in a file.
_PLAIN_NAME = re.compile(r"\w[\w.+:@-]*\Z")
#: OpenSSH expands ``%`` and ``${`` in a user name from version 10 on.
_PLAIN_USER = re.compile(r"[\w.][\w.+@\\-]*\Z")


class ClientFiles(NamedTuple):
    """The files that a block names."""

    program: Path
    """The console script ``ringtasks``."""
    inventory: Path
    known_hosts: Path
    control_path: str | None = None
    """The stable link to the master's socket, with ``%r`` for the user; None: no master."""


def block_of(config: SSHConfig, pattern: str, files: ClientFiles) -> str:
    """Return the ``Host`` block of one host.

    :param pattern: the name to type.
    :raises UsageError: ssh could read one of the values as something else.
    """
    if "@" in pattern:
        user, _, host = pattern.rpartition("@")
        raise UsageError(
            f"{config.id}: ssh reads this name as user {user} of host {host}: rename it"
        )
    if not _PLAIN_NAME.match(pattern) or not _PLAIN_NAME.match(config.id):
        raise UsageError(f"{config.id!r}: the name is not plain: ssh_config(5) could misread it")
    if config.user and not _PLAIN_USER.match(config.user):
        raise UsageError(f"{config.id}: ssh_user: {config.user!r} is not a plain user name")
    lines = [f"Host {pattern}", *(f"    {name} {value}" for name, value in _options(config, files))]
    text = "\n".join(lines)
    if not "".join(lines).isprintable():
        raise UsageError(f"{config.id}: a value holds a line end or a control character")
    return f"{text}\n"


def _options(config: SSHConfig, files: ClientFiles) -> Iterator[tuple[str, str]]:
    words = (files.program, "connect", "--inventory", files.inventory, "--fdpass", "--", config.id)
    # ssh expands "%", and then a shell reads it.
    yield "ProxyCommand", shlex.join(percent(str(word)) for word in words)
    yield "ProxyUseFdpass", "yes"  # ssh then reads and writes the connection itself
    yield from pin_options(config, files.known_hosts).items()
    # Other sources of trust, and ways to change the pins.
    yield "GlobalKnownHostsFile", "/dev/null"
    yield "UpdateHostKeys", "no"
    yield "CheckHostIP", "no"
    yield "VerifyHostKeyDNS", "no"
    if config.user:
        yield "User", quoted(config.user)
    key = identity_file(config)
    if key is not None:
        yield "IdentityFile", quoted(path_value(key))
        yield "IdentitiesOnly", "yes"
    yield "ControlMaster", "no"
    yield "ControlPath", "none" if files.control_path is None else quoted(files.control_path)
