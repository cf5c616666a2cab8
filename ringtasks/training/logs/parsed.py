"""The result of reading one line: its positions in the run and its metrics, as spans of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["Move", "Parsed", "ParsedPosition", "Span", "Value"]

#: Start and end in the line.
Span = tuple[int, int]
#: Returns the span in another line of the same shape (``shapes``); LookupError if there is none.
Move = Callable[[Span], Span]


class ParsedPosition(NamedTuple):
    """The progress of the run in one unit: ``epoch 3/100``."""

    unit: str
    done: Span
    total: Span | None = None


class Value(NamedTuple):
    """A metric and the span of its number."""

    name: str
    span: Span


class Parsed(NamedTuple):
    """One line. ``totals``: the number of epochs or steps that the run will have, by unit."""

    positions: tuple[ParsedPosition, ...] = ()
    values: tuple[Value, ...] = ()
    totals: tuple[tuple[str, Span], ...] = ()
    rank: Span | None = None
    #: Printed from one dict: the reader of the Hugging Face trainer reads only those.
    is_dict: bool = False

    def __bool__(self) -> bool:
        return bool(self.positions or self.values or self.totals)

    def named(self, names: Iterable[str]) -> Parsed:
        """Return the same content with other names of the metrics."""
        values = zip(names, self.values, strict=True)
        return self._replace(values=tuple(Value(name, value.span) for name, value in values))

    def moved(self, move: Move) -> Parsed:
        """Return the same content with its spans in another line."""
        return Parsed(
            tuple(
                ParsedPosition(unit, move(done), move(total) if total else None)
                for unit, done, total in self.positions
            ),
            tuple(Value(name, move(span)) for name, span in self.values),
            tuple((unit, move(span)) for unit, span in self.totals),
            move(self.rank) if self.rank else None,
            self.is_dict,
        )
