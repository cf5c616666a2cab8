"""The texts of ssh's settings files, for a quick look before OpenSSH is asked (`ssh_config`)."""

from __future__ import annotations

import functools
import glob
import re
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.local_user import expanded_home

from .includes import patterns_of
from .ssh_config import files_of, version_of

__all__ = ["ignored_by_paramiko", "mentions", "read_files"]

#: Paramiko takes such a block for one that matches always.
_UNREAD_MATCH = re.compile(
    r"^\s*match\b.*\s!?(tagged|localnetwork|version|command|sessiontype)\b",
    re.IGNORECASE | re.MULTILINE,
)
_MOST_INCLUDES = 8  # levels of Include


def read_files(config_file: str | None) -> list[str]:
    """Return the paths of ssh's settings files (ssh_config(5), FILES), included ones too.

    :param config_file: `SSHConfig.ssh_config_file`.
    """
    return [
        found
        for file in files_of(config_file)
        for found in (file, *_included(file, _include_folder(file), _MOST_INCLUDES))
    ]


def mentions(keywords: tuple[str, ...], config_file: str | None) -> bool:
    """Return True if a settings file holds one of the keywords, for whatever host."""
    files = tuple(read_files(config_file))
    return _mentions(keywords, files, tuple(version_of(file) for file in files))


def ignored_by_paramiko(config_file: str | None) -> str:
    """Return the settings that Paramiko's parser does not understand; empty: there is none."""
    found = [file for file in read_files(config_file) if file not in files_of(config_file)]
    lines = ["Include"] if found else []
    if any(_UNREAD_MATCH.search(_text(file)) for file in files_of(config_file)):
        lines.append("Match by version, tag, network, command or session")
    return " and ".join(lines)


@functools.lru_cache(maxsize=32)
def _mentions(keywords: tuple[str, ...], files: tuple[str, ...], _versions: object) -> bool:
    pattern = re.compile(rf"^\s*({'|'.join(keywords)})\b", re.IGNORECASE | re.MULTILINE)
    return any(pattern.search(_text(file)) for file in files)


def _include_folder(file: str) -> Path:
    """Return the folder of relative patterns (ssh_config(5), Include)."""
    parent = Path(file).parent
    return parent if parent == Path("/etc/ssh") else Path("~/.ssh").expanduser()


def _included(file: str, folder: Path, depth: int) -> Iterator[str]:
    for pattern in _patterns(file, folder, version_of(file)):
        for found in sorted(glob.glob(pattern)):  # noqa: PTH207  # a whole path, for each command
            yield found
            if depth:
                yield from _included(found, folder, depth - 1)


@functools.lru_cache(maxsize=64)
def _patterns(file: str, folder: Path, _version: object) -> tuple[str, ...]:
    return tuple(str(folder / expanded_home(word)) for word in patterns_of(_text(file)))


def _text(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError:
        return ""
