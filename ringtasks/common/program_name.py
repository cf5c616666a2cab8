"""The program in hints: ``inv`` or ``ringtasks``, as the user has typed it."""

from __future__ import annotations

import sys
from pathlib import PurePath

__all__ = ["as_typed", "program_name"]


def program_name() -> str:
    """Return ``ringtasks`` if that console script runs, else ``inv``."""
    return "ringtasks" if PurePath(*sys.argv[:1]).stem == "ringtasks" else "inv"


def as_typed(command: str) -> str:
    """Return a command for a message, with the program in front: ``inv check``."""
    return f"{program_name()} {command}"
