"""The algorithms that a master prefers if the user's and the system's settings name none.

* Ciphers: AES-GCM, which processors compute in hardware, at twice the speed of OpenSSH's first
  choice, ChaCha20-Poly1305.  If the processor has no AES instructions, ssh's own order stays.
* Key exchange: OpenSSH 9.0 to 9.8 takes sntrup761x25519 first, which costs the client 60 ms and the
  server 20, half of a log-in.  Without it the next is taken: from 9.9 on mlkem768x25519, which
  resists quantum computers too and costs 1 ms, else curve25519, as with Paramiko.  curve25519 does
  not protect recorded traffic from a quantum computer: to get that protection from an older
  OpenSSH, set ``KexAlgorithms`` in ``~/.ssh/config``.  If a server supports nothing else, the
  log-in is tried again with all algorithms of ssh (`start`).
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from ringtasks.ssh.ssh_config import files_of

__all__ = ["preferred_algorithms"]

# ssh_config(5): "^" puts names in front of ssh's own list, "-" takes them away; "-" accepts names
# that this ssh does not know.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_KEY_EXCHANGE = "-sntrup761*"

_INCLUDE = re.compile(r"^\s*include[\s=]+(.+)$", re.IGNORECASE | re.MULTILINE)
_MOST_INCLUDES = 8  # levels of Include


@functools.cache
def preferred_algorithms(config_file: str | None = None) -> dict[str, str]:
    """Return options for ssh's command line.

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
    """Yield the texts of ssh's settings files (ssh_config(5), FILES)."""
    for file in map(Path, files_of(config_file)):
        # ssh_config(5), Include: relative to ~/.ssh, except in the system's file.
        is_systems = file.parent == Path("/etc/ssh")
        folder = file.parent if is_systems else Path("~/.ssh").expanduser()
        yield from _texts(file, folder, _MOST_INCLUDES)


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


def _has_aes() -> bool:
    if platform.machine() == "arm64":  # every Apple arm64 processor has AES
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.machine() == "x86_64"  # Macs have AES since 2011
    return re.search(r"^(flags|Features)\b.*\baes\b", text, re.MULTILINE) is not None
