"""Remember the content of a line's template: lines that differ in digits alone are parsed once.

A run prints the same few lines over and over.  The template of a line is its text with the digits
masked: ``step 12 loss 0.5`` and ``step 13 loss 0.4`` share ``step 00 loss 0.0``.  The spans and
names that a pure parser finds in a text seldom depend on its digits, so a result is remembered for
the template, but only if the parser finds the same after every digit was changed, and with zeros:
100.0 may be a count, 100.5 is none.

Templates that differ in the widths of numbers alone have one shape (``shapes``).  If the results
for several of them were the same, the next one is not parsed.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Generic, TypeVar

from .parsed import Move
from .shapes import Shape, shape_of

__all__ = ["IN_NAME", "MAX_CHARS", "MAX_TEMPLATES", "TemplateCache", "leading_digits", "masked"]

_Found = TypeVar("_Found")
#: After so many templates with the same result, those of their shape are not parsed.
_MIN_ALIKE = 4

MAX_TEMPLATES = 8192
MAX_CHARS = 4000
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_DIGITS, _NEXT = "0123456789", "1234567890"
#: Digits of a name belong to the template: ``f1``, ``mAP50-95``, ``Acc@0.5``, ``f_22260_00001``.
IN_NAME = re.compile(r"@[\d.:]*\d|(?<!\d)[A-Za-z_]\d+(?:-\d+)?(?:_\d+)*", re.ASCII)
_ALL_DIGITS = re.compile(rf"{IN_NAME.pattern}|(?P<free>\d+)", re.ASCII)
#: In front of a separator of thousands, a leading 0 makes another number of the same digits. Behind
#: a clock these are milliseconds: ``10:00:00,123``; behind a fraction, it is another cell.
_GROUPED = re.compile(rb"(?<!00:00:)(?<![0.])0+(?=[,_]000(?!0))")

_Key = tuple[bytes, tuple[str, ...]]


class _Unknown(enum.Enum):
    ONCE = enum.auto()  # most lines of setup never come again
    VARIES = enum.auto()


def masked(text: bytes) -> bytes:
    """Return a text with zeros for its digits: its template."""
    return text.translate(_TO_ZEROS)


def leading_digits(template: bytes) -> list[int]:
    """Return the offsets at which a text of the template must not have a 0, unless of a name."""
    if b",000" not in template and b"_000" not in template:
        return []
    names = [found.span() for found in IN_NAME.finditer(template.decode("latin-1"))]
    return [
        at
        for at in (found.start() for found in _GROUPED.finditer(template))
        if not any(start <= at < end for start, end in names)
    ]


class _OfShape(Generic[_Found]):
    """The result for one template, and the number of templates of its shape that it fits."""

    __slots__ = ("alike", "found", "shape")

    def __init__(self, shape: Shape, found: _Found) -> None:
        self.shape, self.found = shape, found
        self.alike = 1


class TemplateCache(Generic[_Found]):
    """A pure parser of texts that remembers; ``parse`` must give values that can be compared.

    :param moved: returns the result for a text of the same shape.
    """

    def __init__(
        self,
        parse: Callable[[str], _Found],
        moved: Callable[[_Found, Move], _Found] | None = None,
    ) -> None:
        self._parse, self._moved = parse, moved
        self._known: dict[_Key, _Found | _Unknown] = {}
        self._shapes: dict[_Key, _OfShape[_Found] | None] = {}

    def __call__(self, text: str) -> _Found:
        """Return the result of ``parse_line(text)``. ``text``: bytes, decoded as Latin-1."""
        if len(text) > MAX_CHARS:
            return self._parse(text)
        key = _key(text)
        known = self._known.get(key)
        if known is None or isinstance(known, _Unknown):
            return self._learn(key, known, text)
        return known if _has_leading_digits(text, key[0]) else self._parse(text)

    def _learn(self, key: _Key, known: _Unknown | None, text: str) -> _Found:
        if known is None:
            return self._learn_new(key, text)
        found = self._parse(text)
        if known is _Unknown.ONCE and _has_leading_digits(text, key[0]):
            others = _with_other_digits(text, key[0]), _with_other_digits(text, key[0], to="0" * 10)
            same = all(self._parse(other) == found for other in others)
            self._known[key] = found if same else _Unknown.VARIES
            if self._moved is not None and not leading_digits(key[0]):
                shape = shape_of(key[0])
                self._shapes.setdefault((shape.text, key[1]), _OfShape(shape, found))
                if not same:
                    self._shapes[shape.text, key[1]] = None
        return found

    def _learn_new(self, key: _Key, text: str) -> _Found:
        """Return the result for a template that was not seen before."""
        if len(self._known) >= MAX_TEMPLATES:
            self._known.clear()
        if len(self._shapes) >= MAX_TEMPLATES:
            self._shapes.clear()
        moved, of_shape = self._by_shape(key)
        if moved is not None and of_shape is not None and of_shape.alike >= _MIN_ALIKE:
            self._known[key] = moved
            return moved
        found = self._parse(text)
        if not _has_leading_digits(text, key[0]):
            return found
        self._known[key] = _Unknown.ONCE
        if of_shape is not None:
            if found == moved:
                of_shape.alike += 1
                self._known[key] = found
            else:
                self._shapes[shape_of(key[0]).text, key[1]] = None  # the widths count
        return found

    def _by_shape(self, key: _Key) -> tuple[_Found | None, _OfShape[_Found] | None]:
        """Return the result of a template by its shape, and what is known of that."""
        if self._moved is None or not self._shapes or leading_digits(key[0]):
            return None, None
        shape = shape_of(key[0])
        known = self._shapes.get((shape.text, key[1]))
        try:
            moved = self._moved(known.found, known.shape.to(shape)) if known else None
            return moved, known
        except LookupError:
            return None, known


def _key(text: str) -> _Key:
    return masked(text.encode("latin-1")), tuple(IN_NAME.findall(text))


def _has_leading_digits(text: str, template: bytes) -> bool:
    return all(text[at] != "0" for at in leading_digits(template))


def _with_other_digits(text: str, template: bytes, *, to: str = _NEXT) -> str:
    table = str.maketrans(_DIGITS, to)
    leading_table = str.maketrans("123456789", "234567891")
    leading = set(leading_digits(template))

    def changed(found: re.Match[str]) -> str:
        digits = found["free"]
        if not digits:
            return found[0]
        first = leading_table if found.start() in leading else table
        return digits[0].translate(first) + digits[1:].translate(table)

    return _ALL_DIGITS.sub(changed, text)
