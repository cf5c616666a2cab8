"""Remember what a line's shape tells, so that lines that differ in digits alone are read once.

A run prints the same few lines over and over.  What a pure reader finds in a text, as spans and
names, seldom depends on which digits stand there.  A finding is remembered only if the reader finds
the same after every digit was changed.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["ByShape"]

_Found = TypeVar("_Found")

_MAX_SHAPES = 4096
_MAX_CHARS = 1000
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TO_NEXT = str.maketrans("0123456789", "1234567890")
#: Digits of a name: ``f1``, ``Acc@5``. They belong to the shape.
_IN_NAME = re.compile(r"[A-Za-z_@]\d+")
_NOT_IN_NAME = re.compile(r"(?<![A-Za-z_@\d])\d+")
#: Whether these are thousands depends on the first digit. Behind a clock they are milliseconds.
_GROUPED = re.compile(rb"(?<!00:00:0)0,000|0_000")

_Key = tuple[bytes, tuple[str, ...]]


class _Unknown(enum.Enum):
    ONCE = enum.auto()  # most lines of setup never come again
    VARIES = enum.auto()


class ByShape(Generic[_Found]):
    """A pure reader of texts that remembers; ``read`` must give values that can be compared."""

    def __init__(self, read: Callable[[str], _Found]) -> None:
        self._read = read
        self._known: dict[_Key, _Found | _Unknown] = {}

    def __call__(self, text: str) -> _Found:
        """Return what ``read(text)`` returns. ``text``: bytes, decoded as Latin-1."""
        if len(text) > _MAX_CHARS:
            return self._read(text)
        key = text.encode("latin-1").translate(_TO_ZEROS), tuple(_IN_NAME.findall(text))
        known = self._known.get(key)
        if known is None or isinstance(known, _Unknown):
            return self._learn(key, known, text)
        return known

    def _learn(self, key: _Key, known: _Unknown | None, text: str) -> _Found:
        found = self._read(text)
        if known is None:
            if len(self._known) >= _MAX_SHAPES:
                self._known.clear()
            self._known[key] = _Unknown.VARIES if _GROUPED.search(key[0]) else _Unknown.ONCE
        elif known is _Unknown.ONCE:
            other = _NOT_IN_NAME.sub(lambda digits: digits[0].translate(_TO_NEXT), text)
            self._known[key] = found if self._read(other) == found else _Unknown.VARIES
        return found
