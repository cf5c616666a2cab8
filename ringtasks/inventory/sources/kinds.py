"""The kinds of inventory sources, each declared once; `fetching` asks those that are providers.

Their API keys are taken from the environment, and masked in every text.
"""

from __future__ import annotations

import os

from ringtasks.common.digest import digest
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.redaction import masking

from .model import SourceError

__all__ = ["KEYS", "KINDS", "SourceKind", "api_key", "digest_of", "masked"]


class SourceKind(NamedTuple):
    """A kind of source, and what is known of its hosts before it is asked."""

    by_hand: str = ""
    """The advice how to ask it by hand."""
    program: str | None = None
    """The provider's own program."""
    key_variable: str | None = None
    """The environment variable with the key for the provider's HTTP API; None: it has none."""
    user: str | None = None
    """The user of its hosts, if neither the answer nor the file names one."""


KINDS = {
    "tailscale": SourceKind(
        "run 'tailscale status', and 'tailscale up' if it is stopped", "tailscale"
    ),
    "runpod": SourceKind(
        "run 'runpodctl pod list', or set RUNPOD_API_KEY", "runpodctl", "RUNPOD_API_KEY", "root"
    ),
    "vast": SourceKind(
        "run 'vastai show instances --raw', or set VAST_API_KEY", "vastai", "VAST_API_KEY", "root"
    ),
    "lambda": SourceKind("set LAMBDA_API_KEY", None, "LAMBDA_API_KEY", "ubuntu"),
    "ssh_config": SourceKind("run 'ssh -G NAME'"),
    "command": SourceKind(),
}


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
