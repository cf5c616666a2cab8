"""Read the headings and bars of Keras of many lines together, by the rules of ``keras``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .columns import RecordSink, Schema
from .keras import KerasLine, KerasReader
from .number_columns import Floats, Ints, NumberColumns, NumberPlace, in_order
from .records import Position, Record
from .trials import named_in_trial

__all__ = ["KerasColumns", "KerasLines"]


class KerasLines(NamedTuple):
    """The lines of one template. ``rows``: their indices in the block; ``lines``: their numbers."""

    found: KerasLine
    rows: Ints
    lines: Ints
    done: NumberPlace
    total: NumberPlace | None
    values: dict[str, NumberPlace]


class KerasColumns:
    """Reads headings and bars."""

    def __init__(self, reader: KerasReader, sink: RecordSink) -> None:
        self._reader, self._sink = reader, sink

    def read(self, sources: Sequence[KerasLines], columns: NumberColumns) -> None:
        """Read the lines of several templates."""
        segment = _KerasSegment(self._reader, sources, columns)
        held = segment.held()
        if held is None:
            block = columns.block
            for n, row, line in segment.in_order():
                self._sink.add(self._reader.take(block.line(row), sources[n].found), line)
            return
        self._take(segment, held)
        segment.end(held)

    def _take(self, segment: _KerasSegment, held: Ints) -> None:
        """Add the epochs of headings, and the metrics of epochs that ended."""
        positions = ("done", "epoch"), ("total", "epoch")
        at = segment.headings
        own = [segment.done[at], segment.total[at]]
        self._sink.buffer.add_columns(Schema("line", positions), segment.lines[at] + 1, own)
        before = self._reader.held
        if before is not None and held[0] < 0 and segment.ends[0] >= 0:
            self._sink.add([before], int(segment.lines[segment.ends[0]]))
        told = np.flatnonzero((held >= 0) & (segment.ends >= 0))
        forms = segment.forms[held[told]]
        for form in np.unique(forms).tolist():
            epochs = told[forms == form]
            names = [("value", named_in_trial(n, self._sink.trial())) for n in segment.names[form]]
            numbers = [segment.value(form, name, held[epochs]) for name in segment.names[form]]
            lines = segment.lines[segment.ends[epochs]]
            places = [segment.epochs[0][epochs], segment.epochs[1][epochs]]
            self._sink.buffer.add_columns(
                Schema("line", (*positions, *names)), lines, places + numbers
            )


class _KerasSegment:
    """The lines in their order, in epochs: the first one began before the lines."""

    def __init__(
        self, reader: KerasReader, sources: Sequence[KerasLines], columns: NumberColumns
    ) -> None:
        self._reader, self._sources, self._columns = reader, sources, columns
        self.lines, order = in_order([source.lines for source in sources])
        self._rows = np.concatenate([source.rows for source in sources])[order]
        sizes = [len(source.lines) for source in sources]
        self.forms: Ints = np.repeat(np.arange(len(sources)), sizes)[order]
        self._at = np.concatenate([np.arange(size) for size in sizes])[order]
        self.done = np.concatenate([columns.values(s.done) for s in sources])[order]
        self.total = np.concatenate(
            [columns.values(s.total) if s.total else np.full(len(s.lines), np.inf) for s in sources]
        )[order]
        self.names = [tuple(source.values) for source in sources]
        is_heading = np.array([source.found.is_heading for source in sources])[self.forms]
        self.headings = np.flatnonzero(is_heading)
        self._epoch = np.cumsum(is_heading)
        self._is_bar = ~is_heading
        first = reader.epoch or Position(np.nan)
        self.epochs = (
            np.concatenate([[first.done], self.done[self.headings]]),
            np.concatenate([[first.total or 0.0], self.total[self.headings]]),
        )
        self._find_ends()

    def _find_ends(self) -> None:
        """Find the line that ends each epoch: the next heading, or the bar of other work."""
        count = len(self.epochs[0])
        done = np.roll(np.where(self._is_bar, self.done, 0.0), 1)
        total = np.roll(np.where(self._is_bar, self.total, np.inf), 1)
        done[0], total[0] = self._reader.done, self._reader.full
        is_other = (self.done < done) | ((self.total != total) & np.isfinite(total))
        self.ends: Ints = np.full(count, -1)
        self.ends[: count - 1] = self.headings
        others = np.flatnonzero(is_other & self._is_bar)
        epochs, at = np.unique(self._epoch[others], return_index=True)
        self.ends[epochs] = others[at]
        self.is_over = np.zeros(count, dtype=bool)
        self.is_over[epochs] = True
        self.is_over[0] |= self._reader.epoch is None
        last = np.where(self.is_over, self.ends, len(self.done))
        if self._reader.epoch is None:
            self.ends[0] = last[0] = -1
        self._is_in: Ints = self._is_bar & (np.arange(len(self.done)) < last[self._epoch])

    def held(self) -> Ints | None:
        """Return the row that tells the metrics of each epoch, -1: none; None if it is unclear."""
        has_values = np.array([bool(names) for names in self.names])[self.forms]
        full = np.flatnonzero(self._is_in & (self.done >= self.total) & has_values)
        held: Ints = np.full(len(self.epochs[0]), -1)
        held[self._epoch[full]] = full  # the last one stays
        names = [{*names} for names in self.names]
        is_part = np.array([[a <= b for b in names] for a in names])
        last = self.forms[held[self._epoch[full]]]
        if not is_part[self.forms[full], last].all():
            return None
        before = self._reader.held
        if held[0] >= 0 and before and not {n for n, _ in before.values} <= names[last[0]]:
            return None
        return held

    def in_order(self) -> list[tuple[int, int, int]]:
        """Return the lines: the number of the source, the row in the block and the number."""
        return [*zip(self.forms.tolist(), self._rows.tolist(), self.lines.tolist(), strict=True)]

    def value(self, form: int, name: str, rows: Ints) -> Floats:
        """Return the values of a metric."""
        values: Floats = self._columns.values(self._sources[form].values[name])[self._at[rows]]
        return values

    def end(self, held: Ints) -> None:
        """Put the reader into its state after the lines."""
        reader, count = self._reader, len(held)
        if count > 1:
            reader.begin(Position(float(self.epochs[0][-1]), float(self.epochs[1][-1])))
        if self.is_over[-1]:
            reader.stop()
            return
        bars = np.flatnonzero(self._is_in & (self._epoch == count - 1))
        if len(bars):
            reader.done, reader.full = float(self.done[bars[-1]]), float(self.total[bars[-1]])
        if held[-1] >= 0 and reader.epoch is not None:
            form, row = int(self.forms[held[-1]]), held[-1:]
            values = [(name, float(self.value(form, name, row)[0])) for name in self.names[form]]
            reader.held = Record({"epoch": reader.epoch}, values)
