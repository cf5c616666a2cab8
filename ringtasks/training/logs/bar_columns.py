"""Read the bars of many lines together.

The rules are those of ``bars``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .bar_lines import BarFormat, held_out
from .bar_rows import BarLines, BarRows, Texts, is_short
from .bar_steps import MAX_HELD, Head, Told, same_as_before
from .bars import MAX_HELD_BARS, BarReader
from .columns import RecordSink, Schema
from .number_columns import Flags, Floats, Ints, NumberColumns
from .trials import named_in_trial
from .words import name_in

__all__ = ["BEHIND", "BarColumns"]

#: The distance of the text behind a bar from the bar itself.
BEHIND = MAX_HELD + 3
#: Fewer bars are read one by one.
_MIN_ROWS = 48
#: So many pieces of one segment are read, then the rest one by one.
_MAX_PIECES = 16


class BarColumns:
    """Reads bars."""

    def __init__(self, bars: BarReader, sink: RecordSink) -> None:
        self._bars, self._sink = bars, sink

    def read(self, sources: Sequence[BarLines], columns: NumberColumns) -> None:
        """Read the bars of several templates."""
        texts = Texts()
        rows = BarRows.made(sources, columns, texts)
        if rows is not None and len(rows.lines) >= _MIN_ROWS:
            self._read_rows(rows, texts)
            return
        taken = (
            (line, row, source.form)
            for source in sources
            for line, row in zip(source.lines.tolist(), source.rows.tolist(), strict=True)
        )
        for line, row, form in sorted(taken, key=lambda each: each[0]):
            self._sink.add(self._bars.read(columns.block.line(row), form), line)

    def _read_rows(self, rows: BarRows, texts: Texts) -> None:
        """Read pieces of which all bars are known together, and the bars between them alone."""
        rank = rows.positions["rank"]
        ranks = np.concatenate([[self._bars.rank], np.where(np.isnan(rank), np.inf, rank)])
        lowest = np.minimum.accumulate(ranks)
        rows = rows.of(np.flatnonzero(np.isnan(rank) | (rank <= lowest[1:])))
        start, size = 0, len(rows.lines)
        for _ in range(_MAX_PIECES):
            if size - start < _MIN_ROWS:
                break
            known = np.array(self._known(rows))[rows.forms[start:]]
            end = size if known.all() else start + int(known.argmin())
            start += self._read_piece(rows.of(np.arange(start, end)), texts)
            self._read_alone(rows, start, min(start + 1, size))
            start += 1
        self._read_alone(rows, start, size)
        self._bars.rank = float(lowest[-1])

    def _read_alone(self, rows: BarRows, start: int, end: int) -> None:
        for n in range(start, end):
            form = rows.formats[int(rows.forms[n])]
            self._sink.add(self._bars.read(rows.text(n), form), int(rows.lines[n]))

    def _known(self, rows: BarRows) -> list[bool]:
        """Return, for each format, whether its bars leave the state of their head unchanged."""
        kinds: dict[str, set[tuple[str, bool]]] = {}
        for form in rows.formats:
            if not form.template.kind:
                kind = form.template.unit, "step" in form.index
                kinds.setdefault(form.template.head, set()).add(kind)
        return [
            bool(form.template.kind)
            or (len(kinds[form.template.head]) == 1 and self._is_known(form))
            for form in rows.formats
        ]

    def _is_known(self, form: BarFormat) -> bool:
        state = self._bars.states.get(form.template.head)
        if state is None or (state.pending and not form.is_of_counts):
            return False
        shown = [*state.shown, *(each for bar in state.pending for each in bar.shown)]
        known = state.known.union(state.ends) if form.is_of_counts else form.template.names
        return all(is_short(text) for _, text in shown) and {*form.template.names} <= {*known}

    def _read_piece(self, rows: BarRows, texts: Texts) -> int:
        """Read bars up to the first one that shows when its head counts; return their number."""
        size = len(rows.lines)
        if size < _MIN_ROWS:
            self._read_alone(rows, 0, size)
            return size
        heads, of_head = _by_head(rows)
        found = []
        for n, name in enumerate(heads):
            at = np.flatnonzero(of_head == n)
            found.append(Head(self._bars.states[name], rows.of(at), at, texts))
        end = min([size, *(int(row) for head in found for row in head.deciding[:1])])
        if end < size:
            return self._read_piece(rows.of(np.arange(end)), texts)
        if any(head.longest > MAX_HELD_BARS for head in found):
            self._read_alone(rows, 0, size)
        else:
            self._read_together(rows, found, of_head)
        return size

    def _read_together(self, rows: BarRows, found: Sequence[Head], of_head: Ints) -> None:
        validated = self._validated(found, of_head < 0)
        values = [
            each
            for head in found
            for told in head.told(validated[head.at])
            for each in _values(head, told)
        ]
        for head in found:
            head.end()
        for each in self._with_steps(values):
            self._take(each)
        self._add_places(rows, of_head)

    def _validated(self, heads: Sequence[Head], is_validation: Flags) -> Flags:
        """Return, for each row, whether a validation came before it; note whether one came last."""
        resets = np.zeros(len(is_validation), dtype=bool)
        for head in heads:
            resets[head.at] = head.resets
        marked = np.where(is_validation | resets, np.arange(1, len(resets) + 1), 0)
        last = np.concatenate([[0], np.maximum.accumulate(marked)])
        validated: Flags = np.concatenate([[self._bars.has_validated], is_validation])[last]
        self._bars.has_validated = bool(validated[-1])
        return validated[:-1]

    def _with_steps(self, values: Sequence[_Values]) -> Sequence[_Values]:
        """Return values with the batches and steps of Lightning, in the position of its counts."""
        if not self._bars.is_lightning:
            return values
        is_own = [~np.isnan(each.epoch) & (each.total > 0) & np.isnan(each.step) for each in values]
        lines = np.concatenate([[], *(v.lines[own] for v, own in zip(values, is_own, strict=True))])
        order = np.argsort(lines, kind="stable")
        epochs = np.concatenate([[], *(v.epoch[o] for v, o in zip(values, is_own, strict=True))])
        totals = np.concatenate([[], *(v.total[o] for v, o in zip(values, is_own, strict=True))])
        steps = np.empty(len(lines))
        if len(lines):
            steps[order] = self._steps_before(epochs[order], totals[order])
        found, start = [], 0
        for each, own in zip(values, is_own, strict=True):
            end = start + int(own.sum())
            found.append(each.of_lightning(own, steps[start:end]))
            start = end
        return found

    def _steps_before(self, epochs: Floats, totals: Floats) -> Floats:
        """Return the steps of all epochs before; NaN if an epoch had another length."""
        bars = self._bars
        length = bars.epoch_length = bars.epoch_length or float(totals[0])
        odd = np.minimum.accumulate(np.where(totals != length, epochs, np.inf))
        odd = np.minimum(odd, bars.odd_epoch)
        bars.odd_epoch = float(odd[-1])
        return np.where(epochs <= odd, epochs * length, np.nan)

    def _take(self, values: _Values) -> None:
        """Add values to the columns, those with the same positions together."""
        trial = self._sink.trial()
        positions = values.positions()
        usable = [
            (column > 0) if kind == "total" else ~np.isnan(column)
            for (kind, _), column in positions
        ]
        keys = _keys([values.is_certain, *usable])
        names = [("value", named_in_trial(name, trial)) for name in values.names]
        for key in np.unique(keys).tolist():
            rows = np.flatnonzero(keys == key)
            kept = [n for n in range(len(positions)) if usable[n][rows[0]]]
            fields = (*(positions[n][0] for n in kept), *names)
            kind = "bar" if values.is_certain[rows[0]] else "line"
            columns = [positions[n][1][rows] for n in kept]
            columns += [column[rows] for column in values.names.values()]
            self._sink.buffer.add_columns(Schema(kind, fields), values.lines[rows], columns)

    def _add_places(self, rows: BarRows, of_head: Ints) -> None:
        """Note the counts of bars that may count the run, and the epochs of what follows them."""
        kinds = [(not f.template.kind, f.is_bare, f.template.unit == "epoch") for f in rows.formats]
        is_own, is_bare, is_of_epochs = np.array(kinds)[rows.forms].T
        places, nothing = rows.positions, np.nan
        done = np.where(is_own & is_bare, places["done"], nothing)
        self._add_place("count", "", rows.lines, done, places["total"])
        if not (is_own & ~is_bare).any():
            return
        epoch = np.where(is_of_epochs, places["done"], places["epoch"])
        epochs = np.where(is_of_epochs, places["total"], places["epochs"])
        # A bar that only counts on, with no other line before it, is still in its epoch.
        is_told = np.ones(len(epoch), dtype=bool)
        is_told[1:] = (np.diff(of_head) != 0) | (np.diff(rows.rows) != 1)
        is_told[1:] |= ~(same_as_before(epoch) & same_as_before(epochs))
        epoch = np.where(is_told & is_own & ~is_bare, epoch, nothing)
        self._add_place("bar", "epoch", rows.lines, epoch, epochs)

    def _add_place(self, kind: str, unit: str, lines: Ints, done: Floats, total: Floats) -> None:
        for told, has_total in ((total > 0, True), (~(total > 0), False)):
            at = np.flatnonzero(told & ~np.isnan(done))
            if len(at):
                fields = (("done", unit), ("total", unit))[: 1 + has_total]
                columns = [done[at], total[at]][: 1 + has_total]
                self._sink.buffer.add_columns(Schema(kind, fields), lines[at] + BEHIND - 1, columns)


class _Values(NamedTuple):
    """Values that bars tell, of the same metrics.

    ``shown``: the bar's own count; the positions are NaN if not known.
    """

    lines: Ints
    unit: str
    is_certain: Flags
    is_end: bool
    shown: Floats
    done: Floats
    total: Floats
    epoch: Floats
    epochs: Floats
    batch: Floats
    step: Floats
    names: Mapping[str, Floats]

    def positions(self) -> list[tuple[tuple[str, str], Floats]]:
        """Return the positions as fields of records, with their columns."""
        epoch, epochs = self.epoch, self.epochs
        if self.unit == "epoch":  # the bar's count is that of epochs
            is_own = ~np.isnan(self.done)
            epoch, epochs = np.where(is_own, np.nan, epoch), np.where(is_own, np.nan, epochs)
        return [
            (("done", "epoch"), epoch), (("total", "epoch"), epochs),
            (("done", "batch"), self.batch), (("total", "batch"), self._total_of(self.batch)),
            (("done", "step"), self.step),
            (("done", self.unit), self.done), (("total", self.unit), self._total_of(self.done)),
        ]  # fmt: skip

    def _total_of(self, done: Floats) -> Floats:
        return np.where(np.isnan(done), np.nan, self.total)

    def of_lightning(self, own: Flags, steps_before: Floats) -> _Values:
        """Return the values with batch and step for the count of those that are Lightning's."""
        step, batch, done = self.step.copy(), self.batch.copy(), self.done.copy()
        step[own] = steps_before + self.shown[own]
        done[own] = np.nan
        if not self.is_end:
            batch[own] = self.shown[own]
        return self._replace(step=step, batch=batch, done=done)


def _by_head(rows: BarRows) -> tuple[list[str], Ints]:
    """Return the bars' heads, and the number of each row's; -1 for the bars of validations."""
    heads = list(dict.fromkeys(f.template.head for f in rows.formats if not f.template.kind))
    numbers = [
        -1 if form.template.kind else heads.index(form.template.head) for form in rows.formats
    ]
    of_head = np.array(numbers, dtype=np.int64)[rows.forms]
    present = np.unique(of_head[of_head >= 0])
    rank = np.where(of_head < 0, -1, np.searchsorted(present, of_head))
    return [heads[n] for n in present.tolist()], rank


def _values(head: Head, told: Told) -> Iterator[_Values]:
    """Yield what a bar tells, split by the metrics that are told."""
    if not len(told.rows):
        return
    keys = _keys([*told.names.values()])
    part = held_out(head.form.template.head)
    for key in np.unique(keys).tolist():
        own = np.flatnonzero(keys == key)
        names = [name for name, tells in told.names.items() if tells[own[0]]]
        if names:
            yield _values_of(head, told, own, {name: name_in(part, name) for name in names})


def _values_of(head: Head, told: Told, own: Ints, names: Mapping[str, str]) -> _Values:
    rows = told.rows[own]
    positions = {name: column[rows] for name, column in head.positions.items()}
    is_certain, count = told.is_certain[own], told.done[own]
    done = np.where(is_certain & np.isnan(positions["step"]), count, np.nan)
    return _Values(
        told.lines[own],
        head.form.template.unit or "step",
        is_certain,
        told.is_end,
        count,
        done,
        positions["total"],
        positions["epoch"],
        positions["epochs"],
        np.full(len(own), np.nan),
        positions["step"],
        {given: head.metrics[name].value[rows] for name, given in names.items()},
    )


def _keys(flags: Sequence[Flags]) -> Ints:
    """Return a number for each row that only rows with equal flags share."""
    keys = np.zeros(len(flags[0]) if flags else 0, dtype=np.int64)
    for n, flag in enumerate(flags):
        keys |= flag.astype(np.int64) << n
    return keys
