"""The result of reading one line: its positions in the run and its metrics, as spans of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["Move", "Parsed", "ParsedPosition", "Span", "Value", "moved_values"]

#: Start and end in the line.
Span = tuple[int, int]
#: Returns the span in another line of the same shape (``shapes``); None if there is none.
Move = Callable[[Span], "Span | None"]


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

    def moved(self, move: Move) -> Parsed | None:
        """Return the content of another line of the same shape."""
        positions = []
        for unit, done, total in self.positions:
            places = move(done), move(total) if total else None
            if places[0] is None or (total and places[1] is None):
                return None
            positions.append(ParsedPosition(unit, places[0], places[1]))
        values, rank = moved_values(self.values, move), move(self.rank) if self.rank else None
        totals = [(unit, move(span)) for unit, span in self.totals]
        known = [(unit, span) for unit, span in totals if span]
        if values is None or len(known) < len(totals) or (self.rank and rank is None):
            return None
        return Parsed(tuple(positions), values, tuple(known), rank, self.is_dict)


def moved_values(values: Iterable[Value], move: Move) -> tuple[Value, ...] | None:
    """Return the metrics of another line of the same shape."""
    found = []
    for name, span in values:
        place = move(span)
        if place is None:
            return None
        found.append(Value(name, place))
    return tuple(found)
