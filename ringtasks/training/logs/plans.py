"""Plans: the parts of lines of one shape, to read many such lines at once.  Pure.

A loop in Python over a long log costs more than all else, so ``struct`` cuts the lines of a shape
into columns.  A plan is made only of a line whose shape is known (``shapes``) and all of whose
numbers are plain digits; all other lines are read one by one.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .parsed import Parsed, Span
from .segments import OF_ONE_LINE, Columns
from .shapes import IN_NAME, coarse

__all__ = [
    "BAR",
    "MIN_LINES",
    "NEW",
    "NOTHING",
    "NO_PLAN",
    "SEEN_ONCE",
    "Layout",
    "Plan",
    "plan_of",
    "plan_of_bar",
    "read_columns",
]

#: Fewer lines are read faster one by one.
MIN_LINES = 8
_PLAIN_NUMBER = re.compile(rb"[-+]?(?:0+\.?0*|\.0+)(?:[eE][-+]?0+)?\Z")


#: The kind of a bar of which only the count is read.
BAR = "bar"


class Layout(NamedTuple):
    """The fields of a line in their order; lines of one layout can share columns.

    A field is ``("fixed", its text)``, ``("rank", "")``, or a number: ``("done", unit)``,
    ``("total", unit)`` or ``("value", name)``.
    """

    fields: tuple[tuple[str, str], ...]
    kind: str


_EMPTY = struct.Struct("")


@dataclass(frozen=True, eq=False)
class Plan:
    """``layout``: None if lines of the shape are read one by one."""

    layout: Layout | None
    cut: struct.Struct = _EMPTY

    @functools.cached_property
    def has_layout(self) -> bool:
        return self.layout is not None


NEW, SEEN_ONCE, NO_PLAN = Plan(None), Plan(None), Plan(None)
#: Of lines that give neither places nor metrics.
NOTHING = Plan(Layout((), "line"))


def plan_of(line: bytes, parsed: Parsed) -> Plan:
    """Return the plan of a line's shape; ``NO_PLAN`` if it has parts of other kinds."""
    if parsed.totals:
        return NO_PLAN
    if not parsed:
        return NOTHING
    if len({value.name for value in parsed.values}) < len(parsed.values):
        return NO_PLAN
    if not parsed.values and not {place.unit for place in parsed.places}.isdisjoint(OF_ONE_LINE):
        return NO_PLAN  # a heading of one batch
    spans = _spans(parsed)
    numbers = [span for span, (kind, _) in spans if kind != "rank"]
    shape = coarse(line)
    if not all(_PLAIN_NUMBER.match(shape[slice(*span)]) for span in numbers):
        return NO_PLAN
    for found in IN_NAME.finditer(line.decode("latin-1")):
        digits = found.start() + 1, found.end()
        if not (parsed.rank and digits == parsed.rank):
            spans.append((digits, ("fixed", line[slice(*digits)].decode())))
    spans.sort()
    if any(a[0][1] > b[0][0] for a, b in itertools.pairwise(spans)):
        return NO_PLAN
    layout = Layout(tuple(field for _, field in spans), "dict" if parsed.is_dict else "line")
    return Plan(_shared(layout), _cut([span for span, _ in spans], len(line)))


def plan_of_bar(line: bytes, done: Span, total: Span) -> Plan:
    """Return the plan of a bar's count and total."""
    layout = Layout((("done", ""), ("total", "")), BAR)
    return Plan(_shared(layout), _cut([done, total], len(line)))


def _spans(parsed: Parsed) -> list[tuple[Span, tuple[str, str]]]:
    spans: list[tuple[Span, tuple[str, str]]] = []
    for place in parsed.places:
        spans.append((place.done, ("done", place.unit)))
        if place.total:
            spans.append((place.total, ("total", place.unit)))
    spans += [(value.span, ("value", value.name)) for value in parsed.values]
    if parsed.rank:
        spans.append((parsed.rank, ("rank", "")))
    return spans


@functools.lru_cache(maxsize=4096)
def _shared(layout: Layout) -> Layout:
    """Return one object for equal layouts, so that they are compared fast."""
    return layout


def _cut(spans: Sequence[Span], length: int) -> struct.Struct:
    parts, at = [], 0
    for start, end in spans:
        parts.append(f"{start - at}x{end - start}s")
        at = end
    return struct.Struct("".join([*parts, f"{length - at}x"]))


def read_columns(plans: Sequence[Plan], lines: Sequence[bytes]) -> list[Columns] | None:
    """Return the numbers of lines by layout; None if they have to be read one by one."""
    of_plan: dict[Plan, tuple[list[int], list[bytes]]] = {plan: ([], []) for plan in set(plans)}
    for n, (plan, line) in enumerate(zip(plans, lines, strict=True)):
        numbers, own = of_plan[plan]
        numbers.append(n)
        own.append(line)
    of_plan.pop(NOTHING, None)
    of_layout: dict[Layout, list[tuple[list[int], list[tuple[bytes, ...]]]]] = {}
    for plan, (numbers, own) in of_plan.items():
        assert plan.layout is not None  # noqa: S101  # for the type checker
        fields = list(zip(*plan.cut.iter_unpack(b"".join(own)), strict=True))
        of_layout.setdefault(plan.layout, []).append((numbers, fields))
    found = [_columns(layout, *_merged(parts)) for layout, parts in of_layout.items()]
    columns = [each for each in found if each is not None]
    return columns if len(columns) == len(found) else None


def _merged(
    parts: Sequence[tuple[list[int], list[tuple[bytes, ...]]]],
) -> tuple[list[int], Sequence[Sequence[bytes]]]:
    """Return the fields of lines of several shapes in the order of the lines."""
    if len(parts) == 1:
        return parts[0]
    numbers = [n for own, _ in parts for n in own]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    columns = [list(itertools.chain(*each)) for each in zip(*(f for _, f in parts), strict=True)]
    return sorted(numbers), [list(map(each.__getitem__, order)) for each in columns]


def _columns(layout: Layout, lines: list[int], fields: Sequence[Sequence[bytes]]) -> Columns | None:
    by_kind: dict[str, dict[str, list[float]]] = {"done": {}, "total": {}, "value": {}}
    rank = 0
    for (kind, name), field in zip(layout.fields, fields, strict=True):
        if kind in by_kind:
            by_kind[kind][name] = numbers = list(map(float, field))
            if math.inf in numbers or -math.inf in numbers or (kind == "total" and 0.0 in numbers):
                return None  # too large, so it is left out; no total
        elif field.count(name.encode() if kind == "fixed" else field[0]) < len(field):
            return None
        elif kind == "rank":
            rank = int(field[0])
    return Columns(lines, by_kind["done"], by_kind["total"], by_kind["value"], rank, layout.kind)
