"""The variables that go to the host with each session: SetEnv and SendEnv (ssh_config(5))."""

from __future__ import annotations

import fnmatch
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ringtasks.common import one_look
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE

__all__ = ["for_master", "own_variables", "variables"]

#: A master takes 256 KiB for a whole request (channels.c, CHANNEL_MUX_MAX_PACKET).
_MAX_BYTES = 96 * 1024


def for_master(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return ``NAME=value`` for each variable that a master may be given.

    The master drops those that its own SendEnv does not name, and adds its SetEnv.
    """
    entries, room = [], _MAX_BYTES
    for name, value in sorted(environ.items(), key=lambda item: len(item[1])):
        room -= len(os.fsencode(name)) + len(os.fsencode(value)) + 5
        if room < 0:
            break
        if name != PRIVATE_KEY_VARIABLE:  # never sent, whatever SendEnv permits
            entries.append(f"{name}={value}")
    return tuple(entries)


def variables(ssh_config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an ssh would send.

    :param ssh_config: ``sendenv`` and ``setenv`` are lists of their lines' values.
    """
    patterns = [word for line in _lines(ssh_config.get("sendenv", ())) for word in line.split()]
    names = [name for name in environ if name != PRIVATE_KEY_VARIABLE]
    sent = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    given = {name: environ[name] for name in names if name in sent}
    return {**given, **dict(_assignments(ssh_config.get("setenv", ())))}


def own_variables(ssh_config: Mapping[str, Any]) -> Mapping[str, str]:
    """Return `variables` of this process's environment; not to be changed."""
    sent, set_ = ssh_config.get("sendenv", ()), ssh_config.get("setenv", ())
    return _own(*(line if isinstance(line, str) else tuple(line) for line in (sent, set_)))


@one_look.kept
def _own(sendenv: Sequence[str] | str, setenv: Sequence[str] | str) -> Mapping[str, str]:
    return variables({"sendenv": sendenv, "setenv": setenv}, os.environ)


def _assignments(lines: Sequence[str] | str) -> Iterator[tuple[str, str]]:
    for line in _lines(lines):
        # ssh -G shows one assignment a line, as it is; Paramiko's parser the line of the file.
        words = [line] if not isinstance(lines, str) else shlex.split(line)
        for word in words:
            name, _, value = word.partition("=")
            yield name, value


def _lines(found: Sequence[str] | str) -> Sequence[str]:
    return (found,) if isinstance(found, str) else found
