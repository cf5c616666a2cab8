"""The providers' API keys: taken from the environment, and masked in every text."""

from __future__ import annotations

import os

from ringtasks.common.digest import digest
from ringtasks.common.redaction import masking

from .kinds import KINDS
from .model import SourceError

__all__ = ["KEYS", "api_key", "digest_of", "masked"]

#: The environment variable with the key for each provider's API.
KEYS = {name: kind.key_variable for name, kind in KINDS.items() if kind.key_variable}


def api_key(kind: str) -> str:
    """Return the key for a provider's API.

    :raises SourceError: it is not set, or cannot be sent in a header; its text is not shown.
    """
    key = os.environ.get(KEYS[kind], "").strip()
    if not key:
        raise SourceError(f"{KEYS[kind]} is not set")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SourceError(f"{KEYS[kind]}: expected printable characters without spaces")
    return key


def digest_of(kind: str) -> str:
    """Return digits that differ between the keys of two accounts, and do not reveal a key."""
    key = os.environ.get(KEYS.get(kind, ""), "")
    return digest(key, 8) if key else ""


def masked(text: str) -> str:
    """Return ``text`` without the keys."""
    return masking(os.environ.get(name, "") for name in KEYS.values())(text)
