"""Let hints name the program that the user has typed: ``inv`` or ``ringtasks``.

Messages are written with ``inv``; `as_typed` is called where they are shown.
"""

from __future__ import annotations

import re
import sys
from pathlib import PurePath

__all__ = ["as_typed", "program_name"]

#: A command of ours in a message, not a path or a word such as "inventory".
_COMMAND = re.compile(
    r"(?<![\w/.-])inv (?=(?:--dry )?(?:"
    "check|completion|connections|deploy|disconnect|doctor|forward|get|health|hosts|init|jobs"
    r"|logs|plot|put|ray|run|shell|ssh-config|start|status|stop|sync|train|wait|why)\b)"
)


def program_name() -> str:
    """Return ``ringtasks`` if that console script runs, else ``inv``."""
    return "ringtasks" if PurePath(sys.argv[0]).stem == "ringtasks" else "inv"


def as_typed(text: str) -> str:
    """Return a message in which commands of ours begin with the program that was typed."""
    name = program_name()
    return text if name == "inv" else _COMMAND.sub(f"{name} ", text)
