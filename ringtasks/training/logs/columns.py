"""The records of many lines, column by column.

A loop in Python over a long log costs more than all else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from .number_columns import Floats, Ints
from .records import Position, Record, fields_of

__all__ = ["ColumnBuffer", "Columns", "RecordSink", "Schema", "records_in_order"]

_Usable: TypeAlias = "tuple[Schema, Ints, list[Floats]]"


class Schema(NamedTuple):
    """The fields of records in their order.

    A field is ``("done", unit)``, ``("total", unit)``, ``("value", metric)``, ``("run", unit)`` for
    a total of the whole run, or ``("rank", "")``.
    """

    kind: str
    fields: tuple[tuple[str, str], ...]


class Columns(NamedTuple):
    """Records of one schema.

    ``lines``: their serial numbers in the log; ``totals``: of some of the positions, never 0.
    """

    lines: Ints
    positions: Mapping[str, Floats]
    totals: Mapping[str, Floats]
    values: Mapping[str, Floats]
    run_totals: Mapping[str, Floats]
    rank: int
    kind: str

    def record(self, n: int) -> Record:
        """Return one of the records."""
        positions = {
            unit: Position(
                float(done[n]), float(self.totals[unit][n]) if unit in self.totals else None
            )
            for unit, done in self.positions.items()
        }
        values = [(name, float(column[n])) for name, column in self.values.items()]
        totals = {unit: float(column[n]) for unit, column in self.run_totals.items()}
        return Record(positions, values, totals, self.rank, self.kind)


class ColumnBuffer:
    """Takes lines and records, and returns them as columns."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, ...], tuple[list[int], list[Sequence[float]]]] = {}
        self._columns: list[tuple[Schema, Ints, Sequence[Floats]]] = []

    def add(self, record: Record, line: int) -> None:
        """Add a record that was read alone."""
        fields, row = fields_of(record)
        if row:
            lines, rows = self._records.setdefault((record.kind, *fields), ([], []))
            lines.append(line)
            rows.append(row)

    def add_columns(self, schema: Schema, lines: Ints, columns: Sequence[Floats]) -> None:
        """Add records whose fields are given as columns, in the order of their lines."""
        if len(lines):
            self._columns.append((schema, lines, columns))

    def take(self) -> list[Columns]:
        """Return all records as columns, and forget them."""
        parts: dict[Schema, list[tuple[Sequence[int] | Ints, Sequence[Floats]]]] = {}
        for schema, given, columns in self._columns:
            parts.setdefault(schema, []).append((given, columns))
        for (kind, *fields), (lines, rows) in self._records.items():
            schema = Schema(kind, tuple(zip(fields[::2], fields[1::2], strict=True)))
            parts.setdefault(schema, []).append((lines, list(np.array(rows, dtype=np.float64).T)))
        self._records, self._columns = {}, []
        return [
            columns
            for schema, own in parts.items()
            for usable in _usable(schema, *_merged(own))
            for columns in _by_rank(*usable)
        ]


def _merged(
    parts: Sequence[tuple[Sequence[int] | Ints, Sequence[Floats]]],
) -> tuple[Ints, list[Floats]]:
    """Return the numbers of lines of several templates in the order of the lines."""
    lines = np.concatenate([np.array(own, dtype=np.int64) for own, _ in parts])
    if len(parts) == 1:
        return lines, list(parts[0][1])
    order = np.argsort(lines, kind="stable")
    columns = zip(*(own for _, own in parts), strict=True)
    return lines[order], [np.concatenate(each)[order] for each in columns]


def _usable(schema: Schema, lines: Ints, columns: list[Floats]) -> Iterator[_Usable]:
    """Yield records with the numbers that can be used: a total of 0 is none."""
    unusable = [
        (column == 0.0) & (kind in ("total", "run"))
        for (kind, _), column in zip(schema.fields, columns, strict=True)
    ]
    if not any(each.any() for each in unusable):
        yield schema, lines, columns
        return
    for kept in {tuple(row) for row in zip(*(~each for each in unusable), strict=True)}:
        own = np.all([each != flag for each, flag in zip(unusable, kept, strict=True)], axis=0)
        fields = tuple(field for field, flag in zip(schema.fields, kept, strict=True) if flag)
        if fields:
            numbers = [c[own] for c, flag in zip(columns, kept, strict=True) if flag]
            yield Schema(schema.kind, fields), lines[own], numbers


def _by_rank(schema: Schema, lines: Ints, columns: list[Floats]) -> Iterator[Columns]:
    if ("rank", "") not in schema.fields:
        yield _made(schema, lines, columns, 0)
        return
    ranks = columns[schema.fields.index(("rank", ""))]
    for rank in sorted(set(ranks.tolist())):
        own = ranks == rank
        yield _made(schema, lines[own], [column[own] for column in columns], int(rank))


def _made(schema: Schema, lines: Ints, columns: Sequence[Floats], rank: int) -> Columns:
    by_kind: dict[str, dict[str, Floats]] = {}
    for (kind, name), column in zip(schema.fields, columns, strict=True):
        by_kind.setdefault(kind, {})[name] = column
    positions = by_kind.get("done", {})
    totals = {
        unit: column for unit, column in by_kind.get("total", {}).items() if unit in positions
    }
    return Columns(
        lines,
        positions,
        totals,
        by_kind.get("value", {}),
        by_kind.get("run", {}),
        rank,
        schema.kind,
    )


class RecordSink(NamedTuple):
    """Takes the records of many lines.

    :param buffer: takes them as columns.
    :param add: takes those of lines that were read one by one, with the line's number.
    :param trial: returns the trial of the lines.
    """

    buffer: ColumnBuffer
    add: Callable[[Sequence[Record], int], None]
    trial: Callable[[], str]


def records_in_order(columns: Sequence[Columns]) -> Iterator[tuple[int, Record]]:
    """Yield the records of all columns in the order of their lines, with their serial numbers."""
    order = sorted(
        (line, n, row) for n, own in enumerate(columns) for row, line in enumerate(own.lines)
    )
    for line, n, row in order:
        yield int(line), columns[n].record(row)
