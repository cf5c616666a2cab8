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
import os
import re
from pathlib import Path

from ringtasks.ssh.settings_files import mentions

__all__ = ["preferred_algorithms"]

# ssh_config(5): "^" puts names in front of ssh's own list, "-" takes them away; "-" accepts names
# that this ssh does not know.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_KEY_EXCHANGE = "-sntrup761*"


def preferred_algorithms(config_file: str | None = None) -> dict[str, str]:
    """Return options for ssh's command line.

    :param config_file: `SSHConfig.ssh_config_file`.
    """
    preferred = {"KexAlgorithms": _KEY_EXCHANGE}
    if _has_aes():
        preferred["Ciphers"] = _CIPHERS
    return {name: value for name, value in preferred.items() if not mentions((name,), config_file)}


@functools.cache
def _has_aes() -> bool:
    if os.uname().machine == "arm64":  # every Apple arm64 processor has AES
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return os.uname().machine == "x86_64"  # Macs have AES since 2011
    return re.search(r"^(flags|Features)\b.*\baes\b", text, re.MULTILINE) is not None
