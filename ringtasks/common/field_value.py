"""`repr`, equality and hash of dataclasses, from their fields, without code of their own.

For the dataclasses that every run loads: the methods that ``dataclass`` generates are compiled at
each start, which takes a millisecond and more for a class with forty fields.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

__all__ = ["FieldValue"]


class FieldValue:
    """The base of a class with ``@dataclass(eq=False, repr=False)``; the fields' flags count."""

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        kind: Any = type(self)
        compared = _compared_of(kind)
        return bool(compared(self) == compared(other))

    def __hash__(self) -> int:
        names = (f.name for f in fields(self) if (f.compare if f.hash is None else f.hash))  # type: ignore[arg-type]
        return hash(tuple(getattr(self, name) for name in names))


@functools.cache
def _compared_of(kind: Any) -> Callable[[object], object]:
    """Return a function that reads the compared fields, for each host of a run."""
    return attrgetter(*(f.name for f in fields(kind) if f.compare))
