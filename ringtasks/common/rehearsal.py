"""The rehearsal that is in force: the failures of routes that a user has asked for.

`ringtasks.ssh.rehearsal` gives the words their meaning.  A rehearsal is of this process alone, and
what it learns about routes is kept in no file.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # every program loads this module, and typing takes a while
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FLAG", "VARIABLE", "Rehearsal", "announce", "current", "rehearsing", "token"]

FLAG = "--rehearse"
VARIABLE = "RINGTASKS_REHEARSE"


class Rehearsal:
    """The words of a rehearsal, and the flag or the variable that holds them."""

    def __init__(self, words: str, origin: str) -> None:
        self.words, self.origin = words, origin

    @property
    def notice(self) -> str:
        """The line that marks the output."""
        if self.origin == VARIABLE:
            return f"REHEARSAL: {self.words} ({VARIABLE} is set; unset it to end the rehearsal)"
        return f"REHEARSAL: {self.words} ({self.origin}, for this command)"


#: The rehearsals that `rehearsing` has begun, innermost last.
_given: list[tuple[Rehearsal, str]] = []
_of_process = os.urandom(4).hex()
#: The rehearsals that were reported.
_announced: set[str] = set()


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
    return f"{os.getpid()} {_begun()} {found.words}"


def _begun() -> str:
    """Return text that distinguishes the rehearsal in force from others with its words."""
    return _given[-1][1] if _given else _of_process


def announce(tell: Callable[[str], None] | None = None) -> None:
    """Report the rehearsal in force, once in this process and its forked children for each one.

    :param tell: called with the notice; None: the caller has reported it.
    """
    found = current()
    if found is None:
        return
    begun = f"{_begun()} {found.words}"
    if begun in _announced:
        return
    _announced.add(begun)
    if tell is not None:
        tell(found.notice)


class rehearsing:  # used as a function; contextlib would be loaded by every program
    """Let routes fail as ``words`` say in the block, in all threads; ignore the variable."""

    def __init__(self, words: str) -> None:
        self._entry = Rehearsal(words.strip(), FLAG), os.urandom(4).hex()

    def __enter__(self) -> Rehearsal:
        _given.append(self._entry)
        return self._entry[0]

    def __exit__(self, *exc: object) -> None:
        _given.remove(self._entry)
