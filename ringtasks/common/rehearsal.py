"""The rehearsal that is in force: the failures of routes that a user has asked for.

`ringtasks.ssh.rehearsal` gives the words their meaning.  A rehearsal is of this process alone, and
what it learns about routes is kept in no file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["FLAG", "VARIABLE", "Rehearsal", "current", "rehearsing", "token"]

FLAG = "--rehearse"
VARIABLE = "RINGTASKS_REHEARSE"


class Rehearsal(NamedTuple):
    """The words of a rehearsal, and the flag or the variable that holds them."""

    words: str
    origin: str

    @property
    def notice(self) -> str:
        """The line that marks the output."""
        if self.origin == VARIABLE:
            return f"REHEARSAL: {self.words} ({VARIABLE} is set; unset it to end the rehearsal)"
        return f"REHEARSAL: {self.words} ({self.origin}, for this command)"


#: The rehearsals that `rehearsing` has begun, innermost last.
_given: list[tuple[Rehearsal, str]] = []
_of_process = os.urandom(4).hex()


def current() -> Rehearsal | None:
    """Return the rehearsal in force; None: routes fail only by themselves."""
    if _given:
        return _given[-1][0]
    words = os.environ.get(VARIABLE, "").strip()
    return Rehearsal(words, VARIABLE) if words else None


def token() -> str:
    """Return text that no other process and no other rehearsal has; empty without a rehearsal."""
    found = current()
    if found is None:
        return ""
    begun = _given[-1][1] if _given else _of_process
    return f"{os.getpid()} {begun} {found.words}"


@contextlib.contextmanager
def rehearsing(words: str, origin: str = FLAG) -> Iterator[Rehearsal]:
    """Within the block, routes fail as ``words`` say, in all threads; the variable is ignored."""
    entry = Rehearsal(words.strip(), origin), os.urandom(4).hex()
    _given.append(entry)
    try:
        yield entry[0]
    finally:
        _given.remove(entry)
