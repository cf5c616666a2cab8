"""Which ciphers to prefer: AES-GCM, which processors do in hardware, at twice the speed.

OpenSSH puts ChaCha20-Poly1305 first (ssh_config(5), Ciphers).  Both are as good; where the user's
or the system's settings speak of ciphers, or this processor has no instructions for AES, nothing is
changed.
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["preferred_ciphers"]

#: Put in front of what ssh would offer anyway.
_PREFERRED = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_CIPHERS = re.compile(r"^\s*ciphers\b", re.IGNORECASE | re.MULTILINE)
_INCLUDE = re.compile(r"^\s*include[\s=]+(.+)$", re.IGNORECASE | re.MULTILINE)
_MOST_INCLUDES = 8  # files within files


@functools.cache
def preferred_ciphers() -> str | None:
    """The value for ssh's ``Ciphers``; None: leave it."""
    files = ((Path("~/.ssh/config"), "~/.ssh"), (Path("/etc/ssh/ssh_config"), "/etc/ssh"))
    is_settled = any(
        _CIPHERS.search(text)
        for file, folder in files
        for text in _texts(file.expanduser(), Path(folder).expanduser(), _MOST_INCLUDES)
    )
    return None if is_settled or not _has_aes() else _PREFERRED


def _texts(file: Path, folder: Path, depth: int) -> Iterator[str]:
    """The text of a settings file and of all that it includes."""
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


def _has_aes() -> bool:
    if platform.machine() == "arm64":  # Apple's all have
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.machine() == "x86_64"  # a Mac: since 2011
    return re.search(r"^(flags|Features)\b.*\baes\b", text, re.MULTILINE) is not None
