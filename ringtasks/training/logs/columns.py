"""Records by their schema, column by column.  Pure.

A loop in Python over a long log costs more than all else, so records of one schema are collected as
rows of text and converted a column at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import NamedTuple

from .numbers import as_float
from .records import Position, Record

__all__ = ["ColumnBuffer", "Columns", "Rows", "Schema", "records_in_order"]

_Number = float | bytes | str


class Schema(NamedTuple):
    """The fields of records, in the order of a row.

    A field is ``("done", unit)``, ``("total", unit)``, ``("value", metric)``, ``("run", unit)`` for
    a total of the whole run, or ``("rank", "")``.
    """

    kind: str
    fields: tuple[tuple[str, str], ...]


class Columns(NamedTuple):
    """Records of one schema.

    ``lines``: their serial numbers in the log; ``totals``: of some of the places, never 0.
    """

    lines: Sequence[int]
    places: Mapping[str, list[float]]
    totals: Mapping[str, list[float]]
    values: Mapping[str, list[float]]
    run_totals: Mapping[str, list[float]]
    rank: int
    kind: str

    def record(self, n: int) -> Record:
        """Return one of the records."""
        places = {
            unit: Position(done[n], self.totals[unit][n] if unit in self.totals else None)
            for unit, done in self.places.items()
        }
        values = [(name, column[n]) for name, column in self.values.items()]
        totals = {unit: column[n] for unit, column in self.run_totals.items()}
        return Record(places, values, totals, self.rank, self.kind)


class Rows:
    """Rows of one schema, with the serial numbers of their lines."""

    __slots__ = ("lines", "rows", "schema")

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.lines: list[int] = []
        self.rows: list[Sequence[_Number]] = []


class ColumnBuffer:
    """Takes rows and records, and returns them as columns."""

    def __init__(self) -> None:
        self._by_schema: dict[Schema, Rows] = {}

    def rows(self, schema: Schema) -> Rows:
        """Return the rows of a schema, to which more can be appended."""
        rows = self._by_schema.get(schema)
        if rows is None:
            rows = self._by_schema[schema] = Rows(schema)
        return rows

    def add(self, record: Record, line: int) -> None:
        """Add a record that was read alone."""
        fields: list[tuple[str, str]] = []
        row: list[float] = []
        for unit, place in record.places.items():
            fields.append(("done", unit))
            row.append(place.done)
            if place.total:
                fields.append(("total", unit))
                row.append(place.total)
        for name, value in record.values:
            fields.append(("value", name))
            row.append(value)
        for unit, total in record.totals.items():
            fields.append(("run", unit))
            row.append(total)
        if record.rank:
            fields.append(("rank", ""))
            row.append(record.rank)
        if row:
            rows = self.rows(Schema(record.kind, tuple(fields)))
            rows.lines.append(line)
            rows.rows.append(row)

    def take(self) -> list[Columns]:
        """Return all rows as columns, and forget them."""
        columns: list[Columns] = []
        pending = [rows for rows in self._by_schema.values() if rows.lines]
        while pending:
            rows = pending.pop()
            columns += _columns(rows, pending)
            rows.lines, rows.rows = [], []
        return columns

    def forget_schemas(self) -> None:
        """Forget the schemas as well: there are too many."""
        self._by_schema.clear()


def _columns(rows: Rows, pending: list[Rows]) -> Iterator[Columns]:
    """Yield the columns of rows; those of which a number cannot be used go to ``pending``."""
    schema = rows.schema
    columns = [_numbers(column) for column in zip(*rows.rows, strict=True)]
    odd = _odd_rows(schema, columns, rows.rows)
    if odd:
        pending += _without_odd(rows, columns, odd)
        return
    if ("rank", "") in schema.fields:
        yield from _by_rank(rows, columns)
    else:
        yield _made(schema, rows.lines, columns, 0)


def _numbers(column: Sequence[_Number]) -> list[float]:
    try:
        return list(map(float, column))
    except ValueError:  # thousands separators
        return [math.inf if (n := as_float(each)) is None else n for each in column]  # type: ignore[arg-type]


def _odd_rows(
    schema: Schema, columns: Sequence[Sequence[float]], rows: Sequence[Sequence[_Number]]
) -> set[int]:
    """Return the rows in which a number is too large, or a total is 0."""
    odd: set[int] = set()
    for k, ((kind, _), numbers) in enumerate(zip(schema.fields, columns, strict=True)):
        if kind in ("total", "run") and 0.0 in numbers:
            odd.update(n for n, number in enumerate(numbers) if number == 0.0)
        if math.inf in numbers or -math.inf in numbers:
            odd.update(
                n
                for n, number in enumerate(numbers)
                if math.isinf(number) and (kind != "value" or _is_too_large(rows[n][k]))
            )
    return odd


def _is_too_large(number: _Number) -> bool:
    return not isinstance(number, float) and as_float(number) is None


def _without_odd(rows: Rows, columns: Sequence[Sequence[float]], odd: set[int]) -> Iterator[Rows]:
    """Yield the rows without the odd ones, then each of those without its odd numbers."""
    rest = Rows(rows.schema)
    for n, (line, row) in enumerate(zip(rows.lines, rows.rows, strict=True)):
        if n not in odd:
            rest.lines.append(line)
            rest.rows.append(row)
            continue
        kept = [
            not (
                (math.isinf(column[n]) and (field[0] != "value" or _is_too_large(row[k])))
                or (field[0] in ("total", "run") and column[n] == 0.0)
            )
            for k, (field, column) in enumerate(zip(rows.schema.fields, columns, strict=True))
        ]
        own = Rows(Schema(rows.schema.kind, tuple(compress(rows.schema.fields, kept))))
        own.lines, own.rows = [line], [list(compress(row, kept))]
        if any(kept):
            yield own
    if rest.lines:
        yield rest


def _by_rank(rows: Rows, columns: Sequence[list[float]]) -> Iterator[Columns]:
    ranks = columns[rows.schema.fields.index(("rank", ""))]
    for rank in sorted(set(ranks)):
        own = [each == rank for each in ranks]
        lines = list(compress(rows.lines, own))
        yield _made(rows.schema, lines, [list(compress(c, own)) for c in columns], int(rank))


def _made(
    schema: Schema, lines: Sequence[int], columns: Sequence[list[float]], rank: int
) -> Columns:
    by_kind: dict[str, dict[str, list[float]]] = {}
    for (kind, name), column in zip(schema.fields, columns, strict=True):
        by_kind.setdefault(kind, {})[name] = column
    places = by_kind.get("done", {})
    totals = {unit: column for unit, column in by_kind.get("total", {}).items() if unit in places}
    return Columns(
        lines, places, totals, by_kind.get("value", {}), by_kind.get("run", {}), rank, schema.kind
    )


def records_in_order(columns: Sequence[Columns]) -> Iterator[Record]:
    """Yield the records of all columns in the order of their lines."""
    order = sorted(
        (line, n, row) for n, own in enumerate(columns) for row, line in enumerate(own.lines)
    )
    for _, n, row in order:
        yield columns[n].record(row)
