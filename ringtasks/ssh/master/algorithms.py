"""Which algorithms a master prefers where the user's and the system's settings do not say.

* Ciphers: AES-GCM, which processors do in hardware, at twice the speed of OpenSSH's first choice,
  ChaCha20-Poly1305.  Not where the processor has no instructions for AES.
* Key exchange: OpenSSH 9.0 to 9.8 takes sntrup761x25519 first, which costs the client 60 ms and the
  server 20, half of a log-in.  Without it the next is taken: from 9.9 on mlkem768x25519, which is
  made against quantum computers too and costs 1 ms, else curve25519, as Paramiko does.  That one
  protects nobody's recordings from a quantum computer: who wants that of an older OpenSSH sets
  ``KexAlgorithms`` in ``~/.ssh/config``.  A server that knows nothing else is tried again with all
  that ssh has (`start`).
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from ringtasks.ssh.ssh_config import files_of

__all__ = ["preferred_algorithms"]

# ssh_config(5): "^" puts in front of what ssh would offer anyway, "-" takes away; names that this
# ssh does not know may be taken away.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_KEY_EXCHANGE = "-sntrup761*"

_INCLUDE = re.compile(r"^\s*include[\s=]+(.+)$", re.IGNORECASE | re.MULTILINE)
_MOST_INCLUDES = 8  # files within files


@functools.cache
def preferred_algorithms(config_file: str | None = None) -> dict[str, str]:
    """Options for ssh's command line.

    :param config_file: `SSHConfig.ssh_config_file`.
    """
    preferred = {"KexAlgorithms": _KEY_EXCHANGE}
    if _has_aes():
        preferred["Ciphers"] = _CIPHERS
    for text in _settings(config_file):
        for name in list(preferred):
            if re.search(rf"^\s*{name}\b", text, re.IGNORECASE | re.MULTILINE):
                del preferred[name]
    return preferred


def _settings(config_file: str | None) -> Iterator[str]:
    """The texts of ssh's settings (ssh_config(5), FILES)."""
    for file in map(Path, files_of(config_file)):
        # ssh_config(5), Include: relative to ~/.ssh, unless it is the system's file.
        is_systems = file.parent == Path("/etc/ssh")
        folder = file.parent if is_systems else Path("~/.ssh").expanduser()
        yield from _texts(file, folder, _MOST_INCLUDES)


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
