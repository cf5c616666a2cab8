"""The texts of ssh's settings files, for a quick look before OpenSSH is asked (`ssh_config`)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from .ssh_config import files_of, version_of

__all__ = ["mentions", "texts"]

_INCLUDE = re.compile(r"^\s*include[\s=]+(.+)$", re.IGNORECASE | re.MULTILINE)
_MOST_INCLUDES = 8  # levels of Include


def texts(config_file: str | None) -> Iterator[str]:
    """Yield the texts of ssh's settings files (ssh_config(5), FILES), included ones too.

    :param config_file: `SSHConfig.ssh_config_file`.
    """
    for file in map(Path, files_of(config_file)):
        # ssh_config(5), Include: relative to ~/.ssh, except in the system's file.
        is_systems = file.parent == Path("/etc/ssh")
        folder = file.parent if is_systems else Path("~/.ssh").expanduser()
        yield from _texts(file, folder, _MOST_INCLUDES)


def mentions(keywords: tuple[str, ...], config_file: str | None) -> bool:
    """Return True if a settings file holds one of the keywords, for whatever host."""
    files = files_of(config_file)
    return _mentions(keywords, config_file, tuple(version_of(file) for file in files))


@functools.lru_cache(maxsize=32)
def _mentions(keywords: tuple[str, ...], config_file: str | None, _versions: object) -> bool:
    pattern = re.compile(rf"^\s*({'|'.join(keywords)})\b", re.IGNORECASE | re.MULTILINE)
    return any(pattern.search(text) for text in texts(config_file))


def _texts(file: Path, folder: Path, depth: int) -> Iterator[str]:
    """Yield the text of a settings file and of every file that it includes."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return
    yield text
    if not depth:
        return
    for line in _INCLUDE.findall(text):
        for pattern in line.replace('"', "").split():
            place = Path(pattern).expanduser()
            base, rest = (
                (Path("/"), place.relative_to("/")) if place.is_absolute() else (folder, place)
            )
            for found in base.glob(str(rest)):
                yield from _texts(found, folder, depth - 1)
