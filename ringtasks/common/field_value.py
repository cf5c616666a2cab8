"""`repr`, equality and hash of dataclasses, from their fields, without code of their own.

For the dataclasses that every run loads: the methods that ``dataclass`` generates are compiled at
each start, which takes a millisecond and more for a class with forty fields.
"""

from __future__ import annotations

from dataclasses import fields
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
        return _compared(self) == _compared(other)

    def __hash__(self) -> int:
        names = (f.name for f in fields(self) if (f.compare if f.hash is None else f.hash))  # type: ignore[arg-type]
        return hash(tuple(getattr(self, name) for name in names))


def _compared(value: Any) -> tuple[object, ...]:
    return tuple(getattr(value, f.name) for f in fields(value) if f.compare)
