"""Text from outside, made fit for a terminal; names that were mistyped."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "near_names", "printable"]


def printable(text: str) -> str:
    """Return foreign text as one line, without control characters that a terminal would obey."""
    folded = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in folded)


def counted(number: int, noun: str) -> str:
    """Return ``1 host`` or ``3 hosts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def near_names(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return up to three of ``known`` that ``name`` may stand for, the most similar first."""
    import difflib  # only an error needs it

    return tuple(difflib.get_close_matches(name, list(known), n=3, cutoff=0.5))
