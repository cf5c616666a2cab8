"""Join lines that a terminal has cut, as in a log that was copied from it.

    ... train loss: 2.345
    67 acc: 0.5

A line is joined with the next only if it fills a usual number of columns, no line before is longer,
and the cut is within a word, a number or a dict.  After two such cuts all lines that fill the
columns are joined.
"""

from __future__ import annotations

import re

__all__ = ["WrappedLines"]

_COLUMNS = (80, 100, 120, 132, 160)
#: A log whose first lines have no cut has none.
_MAX_LINES = 400
_MIN_CUTS = 2
_CUT = re.compile(rb"[A-Za-z_]\n[a-z_]|[\d.]\n(?:[\d.]|e[-+]\d)")
_START_CHARS = 8


class WrappedLines:
    """Takes the lines of a log in order, and joins those that were cut."""

    def __init__(self) -> None:
        self._lines_left = _MAX_LINES
        self._cuts = 0
        self._columns = _COLUMNS[0]
        self._held = b""

    @property
    def is_sure(self) -> bool:
        """Return whether all lines that fill the columns go on in the next one."""
        return self._cuts >= _MIN_CUTS

    def feed(self, lines: bytes) -> bytes:
        """Return the lines that are whole; the last one may be held back."""
        if not self._lines_left or not lines:
            return lines
        whole: list[bytes] = []
        rest = lines.split(b"\n")
        for n, line in enumerate(rest):
            if not self._lines_left:
                whole += rest[n:]
                break
            self._take(line, whole)
        return b"\n".join(whole)

    def rest(self) -> bytes:
        """Return the line that is held back."""
        held, self._held = self._held, b""
        return held

    def _take(self, line: bytes, whole: list[bytes]) -> None:
        width = len(line.decode("utf-8", "replace"))
        held = self.rest()
        if held and width <= self._columns and self._continues(held, line):
            line = held + line
        elif held:
            whole.append(held)
        if width > self._columns and not self._cuts:
            self._columns = next((each for each in _COLUMNS if each >= width), self._columns)
        if width == self._columns:
            self._held = line
        else:
            whole.append(line)
        if width > self._columns:
            self._lines_left = 0
        elif not self.is_sure:
            self._lines_left -= 1
            if not self._lines_left and (held := self.rest()):
                whole.append(held)

    def _continues(self, held: bytes, line: bytes) -> bool:
        if _start(held) == _start(line):
            return False  # both begin as the lines of this program do
        is_cut = _CUT.match(held[-1:] + b"\n" + line[:4]) is not None or _is_open(held)
        self._cuts += is_cut
        return is_cut or self.is_sure


def _is_open(line: bytes) -> bool:
    """Return whether a dict goes on behind the line."""
    return line.count(b"{") > line.count(b"}")


def _start(line: bytes) -> bytes:
    return re.sub(rb"\d", b"0", line[:_START_CHARS])
