"""SHA-256 of a text, for names that differ."""

from __future__ import annotations

# As in the standard library's `random`: OpenSSL's, in `hashlib`, takes a millisecond to load.
try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 on; it has no stubs
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # up to 3.11; it has no stubs
    except ImportError:
        from hashlib import sha256

__all__ = ["digest"]


def digest(text: str, length: int) -> str:
    """Return the first hexadecimal digits of the text's SHA-256."""
    found: str = sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return found[:length]
