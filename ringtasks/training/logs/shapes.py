"""Shapes: templates that differ in the widths of their numbers alone share one.  Pure.

``loss 0.0`` and ``loss 00.000`` have the same shape.  A span in one of them is found in the other
by its numbers.  The width stays part of a shape if a number is part of something else: a time, a
date, a fraction, a name, a number with separators of thousands.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from typing import NamedTuple

from .parsed import Move

__all__ = ["Shape", "shape_of"]

_NUMBER = re.compile(
    rb"(?<![\w.,/@])(?<!0[:+-])0+(?:\.0+)?(?:[eE][-+]0+)?(?![\w:/@]|[.,]\w|[-+]0)", re.ASCII
)
_RUN = re.compile(b"0+")


class Shape(NamedTuple):
    """A template's shape, and the edges of the numbers whose widths it leaves out."""

    text: bytes
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def to(self, other: Shape) -> Move:
        """Return the function that finds a span of this template in another of the same shape."""

        def moved(offset: int, own: Sequence[int], others: Sequence[int]) -> int:
            n = bisect.bisect_left(own, offset)
            if n < len(own) and own[n] == offset:
                return others[n]
            before = bisect.bisect_right(self.ends, offset) - 1
            if before + 1 < len(self.starts) and self.starts[before + 1] < offset:
                raise LookupError(offset)
            return offset + (other.ends[before] - self.ends[before] if before >= 0 else 0)

        return lambda span: (
            moved(span[0], self.starts, other.starts),
            moved(span[1], self.ends, other.ends),
        )


def shape_of(template: bytes) -> Shape:
    """Return the shape of a template."""
    spans = [found.span() for found in _NUMBER.finditer(template)]
    parts, at = [], 0
    for start, end in spans:
        parts += [template[at:start], _RUN.sub(b"0", template[start:end])]
        at = end
    text = b"".join([*parts, template[at:]])
    return Shape(text, tuple(a for a, _ in spans), tuple(b for _, b in spans))
