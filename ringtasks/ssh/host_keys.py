"""Host keys, and the trust in the key that a server shows.  Pure.

The routes must lead to the same machine, so keys are pinned under the host's *name*, not under the
address that showed them.  The first contact pins (``accept-new`` of ssh_config(5),
StrictHostKeyChecking); a changed key is refused, and no key is accepted over a pin.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from ringtasks.common.light_typing import NamedTuple

__all__ = [
    "BAD_CERTIFICATE",
    "IMPOSTOR",
    "IS_REVOKED",
    "UNKNOWN",
    "Certified",
    "HostKey",
    "KeyVerdict",
    "Pins",
    "judge",
    "signature_algorithms",
]

#: The warning with each refused key.
IMPOSTOR = "possible man in the middle, this may be an impostor"
#: The beginning of the refusal of a certificate.
BAD_CERTIFICATE = "with a bad certificate"
#: The refusal of a revoked key.
IS_REVOKED = "which is REVOKED"
#: The refusal of a host that is not known yet.
UNKNOWN = "no key of the host is known, and StrictHostKeyChecking is yes"

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
        """Parse ``ssh-ed25519 AAAA… [comment]``.

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
        """The form that ``ssh-keygen -l`` prints: ``SHA256:…``."""
        import hashlib  # few runs show a key, and every run loads this module

        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode()

    def __str__(self) -> str:
        return f"{self.type} {self.fingerprint}"


class Pins(NamedTuple):
    """All known keys of a host, its authorities, and its revoked keys."""

    keys: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()
    """Keys that are refused in every case (sshd(8), ``@revoked``)."""
    authorities: tuple[HostKey, ...] = ()
    """Keys whose certificates are accepted (sshd(8), ``@cert-authority``)."""
    needs_certificate: bool = False
    """True if an authority is named for this host: an uncertified key is then no first contact."""

    is_strict: bool = False
    """True if the user accepts known hosts only (ssh_config(5), StrictHostKeyChecking)."""

    @property
    def is_pinned(self) -> bool:
        """True if only known keys are accepted."""
        return bool(self.keys) or self.needs_certificate or self.is_strict

    @property
    def demand(self) -> str:
        """The keys that would be accepted, as text."""
        if self.keys:
            return f"expected {', '.join(map(str, self.keys))}"
        if not self.authorities:
            return UNKNOWN
        return f"expected a certificate by {' or '.join(map(str, self.authorities))}"


class Certified(NamedTuple):
    """A certificate for the key that a server showed."""

    authority: HostKey
    """The signer of the certificate."""
    refusal_reason: str = ""
    """The reason why the certificate is not valid for this host."""


class KeyVerdict(NamedTuple):
    """The judgement of a shown key: trusted or not, and the key to pin."""

    is_trusted: bool
    new_key: HostKey | None = None
    """The key of a first contact."""
    new_authority: HostKey | None = None
    """The authority behind a first contact."""
    refusal_reason: str = ""


def judge(
    offered: HostKey,
    pins: Pins,
    certified: Certified | None = None,
    *,
    is_ephemeral: bool = False,
) -> KeyVerdict:
    """Judge ``offered`` by all that is known of the host.

    A key of another type than the pinned one is a changed key: an impostor can choose its type.
    """
    if {offered, certified and certified.authority} & {*pins.revoked}:
        return KeyVerdict(is_trusted=False, refusal_reason=IS_REVOKED)
    if offered in pins.keys:
        return KeyVerdict(is_trusted=True)
    if certified is not None and certified.authority in pins.authorities:
        if certified.refusal_reason:
            return KeyVerdict(
                is_trusted=False,
                refusal_reason=f"{BAD_CERTIFICATE}: {certified.refusal_reason}",
            )
        is_new = not pins.is_pinned and not is_ephemeral
        return KeyVerdict(is_trusted=True, new_authority=certified.authority if is_new else None)
    if pins.is_pinned:
        return KeyVerdict(is_trusted=False, refusal_reason=pins.demand)
    return KeyVerdict(is_trusted=True, new_key=None if is_ephemeral else offered)


def signature_algorithms(key_type: str) -> tuple[str, ...]:
    """Return the names of a key type in the negotiation: an RSA key signs by SHA-2 only.

    Source: RFC 8332 section 3.
    """
    if not key_type.startswith("ssh-rsa"):
        return (key_type,)
    return tuple(key_type.replace("ssh-rsa", f"rsa-sha2-{bits}", 1) for bits in (512, 256))


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
    """Yield the strings of a blob (RFC 4251 section 5).

    :raises ValueError: it is cut short.
    """
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < max(4, end):
            raise ValueError("cut short")
        yield blob[4:end]
        blob = blob[end:]
