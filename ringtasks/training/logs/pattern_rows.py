"""The lines that patterns recognized, as columns of numbers."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from .bar_columns import BEHIND, BarColumns
from .bar_lines import BarFormat, format_of
from .bar_rows import BarLines, fits
from .columns import ColumnBuffer, RecordSink, Schema
from .forms import LineSlots
from .keras import KerasLine
from .keras_columns import KerasColumns, KerasLines
from .line_reader import LineReader
from .number_columns import Floats, Ints, NumberColumns, NumberPlace, TextBlock
from .parsed import Span
from .patterns import Field, Pattern
from .records import Record
from .template_cache import masked
from .template_ids import SlotEdges

__all__ = ["STRIDE", "PatternRows"]

#: The distance between the serial numbers of lines: a line may give several records.
STRIDE = 1 << 20


class _Rows(NamedTuple):
    """The conversion of the lines of a pattern. ``size``: the number of lines."""

    pattern: Pattern
    size: int
    templates: tuple[bytes, ...]
    slots: tuple[LineSlots | None, ...]
    schemas: tuple[Schema, ...]
    bar: BarFormat | None


class _OfWidths(NamedTuple):
    """Numbers of several widths. ``places``: the rows of those of one width, and their places."""

    size: int
    places: Sequence[tuple[Ints, NumberPlace]]


_Numbers: TypeAlias = "NumberPlace | Floats | _OfWidths"


class _UnconvertedRecords(NamedTuple):
    """Records whose numbers are not converted yet."""

    schema: Schema
    lines: Ints
    columns: Sequence[_Numbers]


class PatternRows:
    """Converts the lines of patterns and adds their records to a buffer.

    :param add: takes the records of lines that were read alone in spite of their pattern.
    """

    def __init__(
        self,
        reader: LineReader,
        buffer: ColumnBuffer,
        add: Callable[[Sequence[Record], int], None],
    ) -> None:
        self._buffer = buffer
        sink = RecordSink(buffer, add, lambda: reader.trial)
        self._bars = BarColumns(reader.bars, sink)
        self._keras = KerasColumns(reader.keras, sink)
        self._known: list[_Rows] = []

    def forget(self) -> None:
        """Forget all patterns."""
        self._known = []

    def add(
        self, pattern: Pattern, lines: Sequence[bytes], slots: Sequence[LineSlots | None]
    ) -> int | None:
        """Return the number of a pattern; None if it can only be read alone."""
        bar = format_of(pattern.bar) if pattern.bar else None
        if bar and not fits(bar, masked(lines[0])):
            return None
        schemas = tuple(
            Schema(record.kind, tuple((field.kind, field.name) for field in record.fields))
            for record in pattern.records
        )
        templates = tuple(map(masked, lines))
        self._known.append(_Rows(pattern, len(lines), templates, tuple(slots), schemas, bar))
        return len(self._known) - 1

    def collect(
        self, block: TextBlock, numbers: Ints, start: int, edges: Callable[[Ints], SlotEdges]
    ) -> None:
        """Add the records of lines.

        :param numbers: the number of the pattern that ends with a line; -1: none.
        :param start: the index of the first line in the block.
        :param edges: returns the slots of lines of a form.
        """
        order = _order_of(numbers)
        found, firsts = np.unique(numbers[order], return_index=True)
        ends = [*firsts[1:].tolist(), len(order)]
        columns = NumberColumns(block)
        records: list[_UnconvertedRecords] = []
        bars: list[BarLines] = []
        keras: list[KerasLines] = []
        for number, first, end in zip(found.tolist(), firsts.tolist(), ends, strict=True):
            if number < 0:
                continue
            rows, last = self._known[number], order[first:end] + start
            records += _records(rows, last, columns, edges)
            if rows.bar:
                lines = (last + 1) * STRIDE
                bars.append(BarLines.of(rows.bar, rows.templates[0], last, lines, columns))
            if rows.pattern.keras:
                keras.append(_of_keras(rows.pattern.keras, rows, last, columns))
        if keras:
            self._keras.read(keras, columns)
        if bars:
            self._bars.read(bars, columns)
        for schema, serials, given in records:
            self._buffer.add_columns(schema, serials, [_values(each, columns) for each in given])


def _values(given: _Numbers, columns: NumberColumns) -> Floats:
    if isinstance(given, NumberPlace):
        return columns.values(given)
    if not isinstance(given, _OfWidths):
        return given
    found = np.empty(given.size)
    for rows, place in given.places:
        found[rows] = columns.values(place)
    return found


def _records(
    rows: _Rows, last: Ints, columns: NumberColumns, edges: Callable[[Ints], SlotEdges]
) -> Sequence[_UnconvertedRecords]:
    """Return the records of lines; ``last``: the last line of each."""
    behind = BEHIND if rows.bar else 0
    first = last - (rows.size - 1)
    own = [edges(first + n) if slots else None for n, slots in enumerate(rows.slots)]
    return [
        _UnconvertedRecords(
            schema,
            (first + record.line + 1) * STRIDE + behind + n,
            [_column(field, rows, first, columns, own[field.line]) for field in record.fields],
        )
        for n, (record, schema) in enumerate(zip(rows.pattern.records, rows.schemas, strict=True))
    ]


def _column(
    field: Field, rows: _Rows, first: Ints, columns: NumberColumns, edges: SlotEdges | None
) -> _Numbers:
    if field.constant is not None:
        return np.full(len(first), field.constant)
    starts, text = columns.block.starts[first + field.line], rows.templates[field.line]
    slots = rows.slots[field.line]
    if slots is None or edges is None:
        return columns.add(text[field.start : field.end], starts + field.start)
    shape = slots.shape
    before = bisect.bisect_right(shape.starts, field.start) - 1
    if before < 0:
        starts = starts + field.start
    elif field.start == shape.starts[before]:
        starts = starts + edges.start(before)
    else:
        starts = starts + edges.end(before) + (field.start - shape.ends[before])
    inside = [n for n, at in enumerate(shape.starts) if field.start <= at < field.end]
    widths = [edges.end(n) - edges.start(n) for n in inside]
    return _of_widths(
        text, field, [(shape.starts[n], shape.ends[n]) for n in inside], starts, widths, columns
    )


def _of_widths(
    text: bytes,
    field: Field,
    runs: Sequence[Span],
    starts: Ints,
    widths: Sequence[Ints],
    columns: NumberColumns,
) -> _OfWidths:
    """Add numbers whose runs of digits have several widths."""
    kinds = np.zeros(len(starts), np.int64)
    for each in widths:
        kinds = kinds * (int(each.max()) + 1) + each
    order, places, at = _order_of(kinds), [], 0
    for count in np.unique(kinds, return_counts=True)[1].tolist():
        rows = order[at : at + count]
        at += count
        shape, end = b"", field.start
        for (run_start, run_end), width in zip(runs, widths, strict=True):
            shape += text[end:run_start] + b"0" * int(width[rows[0]])
            end = run_end
        places.append((rows, columns.add(shape + text[end : field.end], starts[rows])))
    return _OfWidths(len(starts), places)


def _order_of(numbers: Ints) -> Ints:
    """Return the order of numbers; those of 16 bits are sorted faster."""
    is_short = len(numbers) > 0 and numbers.max() < 1 << 15
    return np.argsort(numbers.astype(np.int16) if is_short else numbers, kind="stable")


def _of_keras(line: KerasLine, rows: _Rows, last: Ints, columns: NumberColumns) -> KerasLines:
    starts, template = columns.block.starts[last], rows.templates[0]

    def column(span: Span) -> NumberPlace:
        return columns.add(template[slice(*span)], starts + span[0])

    done = column(line.done)
    total = column(line.total) if template[slice(*line.total)].isdigit() else None
    values = {value.name: column(value.span) for value in line.values}
    return KerasLines(line, last, (last + 1) * STRIDE, done, total, values)
