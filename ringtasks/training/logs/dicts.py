"""Dicts as programs print them: JSON, and ``repr`` with values of NumPy, PyTorch or JAX.  Pure.

A number keeps its offset in the text, from which a pattern for further lines is made.  A text
that is not whole gives no number: its last one may be cut.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .numbers import NUMBER

__all__ = ["Item", "scan"]

_MAX_DEPTH = 8
_MAX_ITEMS = 2000

_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<number>{NUMBER})(?![\w.])
    | (?P<word>[A-Za-z_][\w.]*)
    | (?P<tensor><tf\.Tensor:[^<>]*numpy=(?P<inner>{NUMBER})>)
    | (?P<object><[^<>]*>)
    | (?P<mark>[{{}}\[\](),:=])
    )""",
    re.VERBOSE | re.ASCII,
)
_CLOSES = {"{": "}", "[": "]", "(": ")"}
_WHOLE_NUMBER = re.compile(rf"\s*({NUMBER})\s*\Z", re.ASCII)


class Item(NamedTuple):
    """A value in a dict: a number at ``start:end`` of the text, or else ``text``."""

    path: tuple[str, ...]
    start: int
    end: int
    text: str | None = None
    is_quoted: bool = False

    @property
    def is_number(self) -> bool:
        return self.text is None


def scan(text: str, start: int = 0) -> tuple[list[Item], int] | None:
    """Return the items of the dict that begins at ``start``, at any depth, and the dict's end.

    None if the text has no whole dict there.
    """
    try:
        scanner = _DictScanner(text, start)
        scanner.take("{")
        scanner.dict((), 0)
    except _NotADictError:
        return None
    return scanner.items, scanner.at


class _NotADictError(Exception):
    """The text is not a dict."""


class _DictScanner:
    def __init__(self, text: str, start: int) -> None:
        self._text, self.at = text, start
        self.items: list[Item] = []

    def _next(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self.at)
        if found is None or len(self.items) > _MAX_ITEMS:
            raise _NotADictError
        self.at = found.end()
        return found

    def _peek(self) -> str:
        found = _TOKEN.match(self._text, self.at)
        return found["mark"] or "" if found else ""

    def take(self, mark: str) -> None:
        if self._next()["mark"] != mark:
            raise _NotADictError

    def dict(self, path: tuple[str, ...], depth: int) -> None:
        """Read the text after the opening brace."""
        if depth > _MAX_DEPTH:
            raise _NotADictError
        while self._peek() != "}":
            key = self._next()
            name = key["string"][1:-1] if key["string"] else key["word"] or key["number"]
            if name is None:
                raise _NotADictError
            self.take(":")
            self._value((*path, name), depth)
            if self._peek() != "}":
                self.take(",")
        self.take("}")

    def _value(self, path: tuple[str, ...], depth: int) -> None:
        found = self._next()
        if found["number"] or found["tensor"]:
            span = found.span("number" if found["number"] else "inner")
            self.items.append(Item(path, *span))
        elif found["string"]:
            self._string(path, found)
        elif found["mark"] == "{":
            self.dict(path, depth + 1)
        elif found["mark"] in ("[", "("):
            self._sequence(path, found["mark"], depth)
        elif found["word"]:
            self._word(path, found["word"], depth)
        elif not found["object"]:
            raise _NotADictError

    def _string(self, path: tuple[str, ...], found: re.Match[str]) -> None:
        start, end = found.start("string") + 1, found.end("string") - 1
        number = _WHOLE_NUMBER.match(self._text[start:end])
        if number:
            span = start + number.start(1), start + number.end(1)
            self.items.append(Item(path, *span, is_quoted=True))
        else:
            self.items.append(Item(path, start, end, self._text[start:end]))

    def _word(self, path: tuple[str, ...], word: str, depth: int) -> None:
        """Read ``True``, ``None``, or a call such as ``np.float64(0.25)``: its first argument."""
        if self._peek() == "(":
            self.take("(")
            self._sequence(path, "(", depth)
        else:
            self.items.append(Item(path, self.at, self.at, word))

    def _sequence(self, path: tuple[str, ...], opening: str, depth: int) -> None:
        """Read a list or a call's arguments; a single number in it is the value."""
        if depth > _MAX_DEPTH:
            raise _NotADictError
        before = len(self.items)
        closing, count = _CLOSES[opening], 0
        while self._peek() != closing:
            if opening == "(" and count and self._is_keyword():
                kept = len(self.items)
                self._value(path, depth + 1)
                del self.items[kept:]  # device='cuda:0', grad_fn=<...>, dtype=float32
            else:
                count += 1
                self._value(path, depth + 1)
            if self._peek() != closing:
                self.take(",")
        self.take(closing)
        if len(self.items) != before + 1 or count != 1 or self.items[-1].path != path:
            del self.items[before:]  # if there are several numbers, none is the metric

    def _is_keyword(self) -> bool:
        found = re.compile(r"\s*[A-Za-z_]\w*\s*=").match(self._text, self.at)
        if found:
            self.at = found.end()
        return found is not None
