"""Secrets out of what people get to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["MASK", "masking"]

MASK = "***"
#: A shorter one would take half of the text with it, and be no secret anyway.
_LEAST = 4


def masking(secrets: Iterable[str]) -> Callable[[str], str]:
    """What replaces each of them; of one with several lines each line, as output comes in lines."""
    lines = {line.strip() for secret in secrets for line in secret.splitlines()}
    # One that has another in it goes first.
    hidden = sorted((line for line in lines if len(line) >= _LEAST), key=len, reverse=True)

    def conceal(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, MASK)
        return text

    return conceal
