"""Patterns by the shapes of their lines, so that few of them have to be found by trial.

A log has thousands of templates if its numbers are printed in full: each combination of widths is
one.  The patterns of one shape are alike as a rule: this is checked for the first ones, and taken
for granted for those after them.  Likewise, lines are read one by one if the first ones of their
shape have no pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .line_reader import Mode
from .parsed import Move
from .patterns import Field, FoundRecord, Pattern, find_pattern
from .shapes import Shape, shape_of
from .template_cache import IN_NAME, MAX_CHARS, MAX_TEMPLATES, leading_digits, masked

__all__ = ["KnownPatterns"]

_MIN_ALIKE = 4
#: After so many lines without a known shape, one of some is looked at; each that has one counts
#: against many that have none.
_MAX_VAIN = 1000
_ONE_OF = 16
_VAIN_FOR_EACH = 64

_Key = tuple[Mode, tuple[tuple[bytes, tuple[bytes, ...]], ...]]
_IN_NAME = re.compile(IN_NAME.pattern.encode(), re.ASCII)


class _OfShapes:
    """The pattern of the first lines of some shapes, and the number of others that are alike."""

    __slots__ = ("alike", "pattern", "shapes")

    def __init__(self, shapes: Sequence[Shape], pattern: Pattern | None) -> None:
        self.shapes, self.pattern = shapes, pattern
        self.alike = 1


class _Asked(NamedTuple):
    key: _Key
    shapes: list[Shape]
    known: _OfShapes | None


class KnownPatterns:
    """Returns the patterns of lines."""

    def __init__(self) -> None:
        self._known: dict[_Key, _OfShapes | None] = {}
        self._has_certain, self._vain = False, 0

    def find(self, before: Mode, lines: Sequence[bytes]) -> Pattern | None:
        """Return the pattern of lines; None if lines of their templates are read one by one."""
        asked = self._asked(before, lines)
        if asked is None:
            return find_pattern(before, lines)
        key, shapes, known = asked
        if known is not None and known.alike >= _MIN_ALIKE:
            return _moved(known, shapes)
        pattern = find_pattern(before, lines)
        if key not in self._known:
            self._known[key] = _OfShapes(shapes, pattern)
        elif known is not None:
            known.alike += 1
            self._has_certain |= known.alike >= _MIN_ALIKE
            if pattern != _moved(known, shapes):
                self._known[key] = None
        return pattern

    def certain(self, before: Mode, line: bytes) -> Pattern | None:
        """Return the pattern of a line whose template is new; None if trials are necessary."""
        if not self._has_certain:
            return None
        if self._vain > _MAX_VAIN and self._vain % _ONE_OF:
            self._vain += 1  # most lines of the log have shapes of their own
            return None
        asked = self._asked(before, [line])
        if asked is None or asked.known is None or asked.known.alike < _MIN_ALIKE:
            self._vain += 1
            return None
        self._vain = max(0, self._vain - _VAIN_FOR_EACH)
        return _moved(asked.known, asked.shapes)

    def _asked(self, before: Mode, lines: Sequence[bytes]) -> _Asked | None:
        if any(len(line) > MAX_CHARS for line in lines):
            return None
        templates = [masked(line) for line in lines]
        if any(map(leading_digits, templates)):
            return None
        if len(self._known) > MAX_TEMPLATES:
            self._known.clear()
        shapes = [shape_of(template) for template in templates]
        names = [tuple(_IN_NAME.findall(line)) for line in lines]
        key = before, tuple(zip((shape.text for shape in shapes), names, strict=True))
        return _Asked(key, shapes, self._known.get(key))


def _moved(known: _OfShapes, shapes: Sequence[Shape]) -> Pattern | None:
    """Return the pattern of lines of the same shapes."""
    pattern = known.pattern
    if pattern is None or pattern.bar or pattern.keras:
        return None
    moves = [own.to(other) for own, other in zip(known.shapes, shapes, strict=True)]
    records = []
    for kind, line, fields in pattern.records:
        moved = [_moved_field(field, moves[field.line]) for field in fields]
        kept = tuple(field for field in moved if field is not None)
        if len(kept) < len(fields):
            return None
        records.append(FoundRecord(kind, line, kept))
    return pattern._replace(records=tuple(records))


def _moved_field(field: Field, move: Move) -> Field | None:
    if field.constant is not None:
        return field
    span = move((field.start, field.end))
    return None if span is None else field._replace(start=span[0], end=span[1])
