"""Host keys that no server has: values to compare and to pin."""

from __future__ import annotations

import base64

from ringtasks.ssh.host_keys import HostKey

__all__ = ["OTHER", "OTHER_TYPE", "OURS", "key_of"]


def key_of(seed: bytes, key_type: str = "ssh-ed25519") -> HostKey:
    name = key_type.encode()
    blob = len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big") + seed.ljust(32, b"\0")
    return HostKey(key_type, base64.b64encode(blob).decode())


OURS, OTHER = key_of(b"ours"), key_of(b"other")
OTHER_TYPE = key_of(b"ours", "ssh-rsa")
