"""Ports for programs that are started a moment after their ports were found to be free."""

from __future__ import annotations

import random

__all__ = ["likely_free_port"]

#: Above Ray's workers (10002 to 19999, ray start --help), and below the ports that a system gives
#: to connections, any of which may take a port meanwhile (ip(7): from 32768 on Linux).
_LIKELY_FREE = range(20_000, 32_768)


def likely_free_port() -> int:
    """Return a port that is free on most hosts, and stays so."""
    return random.choice(_LIKELY_FREE)  # noqa: S311  # not a secret
