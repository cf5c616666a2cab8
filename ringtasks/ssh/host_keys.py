"""Host keys, and whether to trust the one that a server shows.  Pure.

The routes must lead to the same machine, so keys are pinned under the host's *name*, not under the
address that showed them.  The first contact pins (``accept-new`` of ssh_config(5),
StrictHostKeyChecking); a changed key is refused, and nothing is accepted over a pin.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["HostKey", "Pins", "Verdict", "judge"]

# The number of fields of a key's blob, its type among them: RFC 4253 section 6.6, RFC 5656
# section 3.1, RFC 8709 section 4, PROTOCOL.u2f of OpenSSH.
_FIELDS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ssh-dss": 5,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
_ED25519_BYTES = 32


class HostKey(NamedTuple):
    """A public key: its type (``ssh-ed25519``) and its base64 blob."""

    type: str
    blob: str

    @classmethod
    def parse(cls, line: str) -> HostKey:
        """From ``ssh-ed25519 AAAA… [comment]``.

        :raises ValueError: it is not a public key.
        """
        key_type, blob, *_ = [*re.split(r"[ \t\r]+", line.strip(" \t\r\n")), "", ""]
        if not _is_whole(key_type, blob):
            raise ValueError(
                f"expected a public key such as 'ssh-ed25519 AAAA…', got {line[:40]!r}"
            )
        return cls(key_type, blob)

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it: ``SHA256:…``."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode()

    def __str__(self) -> str:
        return f"{self.type} {self.fingerprint}"


class Pins(NamedTuple):
    """The keys that are known of a host."""

    keys: tuple[HostKey, ...] = ()
    """Nothing else is accepted; empty: the host was not met before."""
    revoked: tuple[HostKey, ...] = ()
    """Refused whatever else is known (sshd(8), ``@revoked``)."""


class Verdict(NamedTuple):
    """What to do with the key that a server showed: trust it or not, and pin it or not."""

    is_trusted: bool
    is_new: bool = False


def judge(offered: HostKey, pins: Pins, *, is_ephemeral: bool = False) -> Verdict:
    """Whether to trust ``offered``, given all that is known of the host.

    A key of another type than the pinned one is a changed key: an impostor chooses what it shows.
    """
    if offered in pins.revoked:
        return Verdict(is_trusted=False)
    if pins.keys:
        return Verdict(is_trusted=offered in pins.keys)
    return Verdict(is_trusted=True, is_new=not is_ephemeral)


def _is_whole(key_type: str, blob: str) -> bool:
    try:
        fields = list(_strings(base64.b64decode(blob, validate=True)))
    except ValueError:
        return False
    if not fields or fields[0] != key_type.encode():
        return False
    if key_type == "ssh-ed25519" and len(fields[-1]) != _ED25519_BYTES:
        return False
    return len(fields) == _FIELDS.get(key_type, len(fields)) > 1


def _strings(blob: bytes) -> Iterator[bytes]:
    """The strings that a blob is made of (RFC 4251 section 5).

    :raises ValueError: it is cut short.
    """
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < max(4, end):
            raise ValueError("cut short")
        yield blob[4:end]
        blob = blob[end:]
