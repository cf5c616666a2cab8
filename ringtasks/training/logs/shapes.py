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

__all__ = ["IN_NAME", "MAX_CHARS", "MAX_SHAPES", "ByShape", "coarse"]

_Found = TypeVar("_Found")

MAX_SHAPES = 4096
MAX_CHARS = 1000
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TO_NEXT = str.maketrans("0123456789", "1234567890")
#: Digits of a name: ``f1``, ``mAP50-95``, ``Acc@0.5``. They belong to the shape.
IN_NAME = re.compile(r"@[\d.:]*\d|(?<!\d)[A-Za-z_]\d+(?:-\d+)?", re.ASCII)
_ALL_DIGITS = re.compile(rf"{IN_NAME.pattern}|(?P<free>\d+)", re.ASCII)
#: Whether these are thousands depends on the first digit. Behind a clock they are milliseconds.
_GROUPED = re.compile(rb"(?<!00:00:0)0,000|0_000")

_Key = tuple[bytes, tuple[str, ...]]


class _Unknown(enum.Enum):
    ONCE = enum.auto()  # most lines of setup never come again
    VARIES = enum.auto()


def coarse(text: bytes) -> bytes:
    """Return a text with zeros for its digits. Lines of one shape have it in common."""
    return text.translate(_TO_ZEROS)


class ByShape(Generic[_Found]):
    """A pure reader of texts that remembers; ``read`` must give values that can be compared."""

    def __init__(self, read: Callable[[str], _Found]) -> None:
        self._read = read
        self._known: dict[_Key, _Found | _Unknown] = {}

    def __call__(self, text: str) -> _Found:
        """Return what ``read(text)`` returns. ``text``: bytes, decoded as Latin-1."""
        if len(text) > MAX_CHARS:
            return self._read(text)
        key = _key(text)
        known = self._known.get(key)
        if known is None or isinstance(known, _Unknown):
            return self._learn(key, known, text)
        return known

    def is_known(self, text: str) -> bool:
        """Tell whether the result holds for all texts of this shape."""
        return not isinstance(self._known.get(_key(text), _Unknown.ONCE), _Unknown)

    def _learn(self, key: _Key, known: _Unknown | None, text: str) -> _Found:
        found = self._read(text)
        if known is None:
            if len(self._known) >= MAX_SHAPES:
                self._known.clear()
            self._known[key] = _Unknown.VARIES if _GROUPED.search(key[0]) else _Unknown.ONCE
        elif known is _Unknown.ONCE:
            other = _ALL_DIGITS.sub(_with_next_digits, text)
            self._known[key] = found if self._read(other) == found else _Unknown.VARIES
        return found


def _key(text: str) -> _Key:
    return coarse(text.encode("latin-1")), tuple(IN_NAME.findall(text))


def _with_next_digits(found: re.Match[str]) -> str:
    return found[0].translate(_TO_NEXT) if found["free"] else found[0]
