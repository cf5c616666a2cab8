"""The metrics and positions that the states of one bar give, for many lines at once.  Pure.

The rules are those of ``bars.BarReader``, applied to columns: a count grows, begins anew or stays,
and the metrics beside it change or stay.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .bar_lines import Bar
from .bar_rows import POSITION_FIELDS, BarRows, Metric, Texts
from .bars import BarState
from .number_columns import Flags, Floats, Ints
from .records import Position

__all__ = ["MAX_HELD", "Head", "Told", "same_as_before"]

#: The values that were held back come at most so far behind the line that tells them, others after.
MAX_HELD = 1 << 18


class Told(NamedTuple):
    """Values that bars tell.

    ``rows``: those of the head that show them; ``lines``: the lines that tell them; ``done``: the
    counts that they belong to; ``names``: for each metric, which of the rows tell it.
    """

    rows: Ints
    lines: Ints
    done: Floats
    is_certain: Flags
    is_end: bool
    names: Mapping[str, Flags]


class Head:
    """The lines of one bar, behind its state before them.

    The first ``start`` rows are that state: the bars whose values are held back, and the last bar.

    :param at: the indices of the rows among those of all bars.
    """

    def __init__(self, state: BarState, rows: BarRows, at: Ints, texts: Texts) -> None:
        self.state, self.rows, self.at = state, rows, at
        self.form = rows.formats[int(rows.forms[0])]
        before = [bar.shown for bar in state.pending] + [state.shown]
        start = self.start = len(before)
        self.lines = np.concatenate([np.zeros(start, dtype=np.int64), rows.lines])
        self.positions = {
            name: np.concatenate([np.full(start, position), rows.positions[name]])
            for name, position in _places_of(state).items()
        }
        self.done = self.positions["done"]
        numbers = [texts.number(tuple(name for name, _ in shown)) for shown in before]
        self._shown = np.concatenate([np.array(numbers, dtype=np.int64), rows.shown])
        names = dict.fromkeys([*rows.metrics, *(name for shown in before for name, _ in shown)])
        self.metrics = {
            name: Metric.of_texts([dict(shown).get(name) for shown in before], texts).followed_by(
                rows.metrics.get(name, Metric.empty(len(rows.lines)))
            )
            for name in names
        }
        self._compare()

    def _compare(self) -> None:
        """Compare each row with the one before it."""
        size, start = len(self.done), self.start
        is_own = np.arange(size) >= start
        self.begins = np.zeros(size, dtype=bool)
        self.begins[1:] = self.done[1:] < self.done[:-1]
        for name in ("total", "epoch", "epochs"):
            self.begins[1:] |= ~same_as_before(self.positions[name])
        self.begins &= is_own
        self.counts = self.begins.copy()
        self.counts[1:] |= self.done[1:] != self.done[:-1]
        self.counts &= is_own
        self.again = is_own & ~self.counts
        self.has = np.zeros(size, dtype=bool)
        for metric in self.metrics.values():
            self.has |= metric.piece >= 0
        each = np.arange(1, size)
        self.changed = np.zeros(size, dtype=bool)
        self.changed[1:] = self._differs(each, each - 1)
        self.changed &= is_own
        self._group = np.cumsum(self.counts)

    def _differs(self, rows: Ints, others: Ints) -> Flags:
        """Return which of the rows do not show the metrics of the other row."""
        differs: Flags = self._shown[rows] != self._shown[others]
        for metric in self.metrics.values():
            differs |= metric.differs(rows, others)
        return differs

    @property
    def longest(self) -> int:
        """The largest number of rows of one count whose values may be held back."""
        held = self._group[self.has] if self.form.is_of_counts else self._group[:0]
        return int(np.bincount(held, minlength=1).max())

    @property
    def deciding(self) -> Ints:
        """The own rows that may show whether the bar counts before its values are set."""
        if self.state.counts_first is not None or not self.form.is_of_counts:
            return self.at[:0]
        decides = self.changed & (self.again | (self.counts & self.has & (self.done == 0)))
        rows: Ints = self.at[decides[self.start :]]
        return rows

    @property
    def resets(self) -> Flags:
        """The own rows after which a validation before them is over."""
        if not self.form.is_of_counts:
            return np.zeros(len(self.at), dtype=bool)
        resets = self.counts
        if self.state.counts_first:
            resets = resets | (self.again & self.has & (self.done != 0))
        return resets[self.start :]

    def told(self, validated: Flags) -> Iterator[Told]:
        """Yield all values.

        :param validated: for each own row, whether the bar of a validation came before it.
        """
        if self.form.is_of_counts:
            yield from self._stated_of_counts(
                np.concatenate([np.zeros(self.start, bool), validated])
            )
            return
        is_certain = self.form.template.unit != "uncertain"
        told = self.has & self.changed
        if is_certain:
            told = self.has & (self.changed | self.counts)
        self._left: Ints = np.array([], dtype=np.int64)
        rows = np.flatnonzero(told)
        yield self._told(rows, self._shows(rows), is_certain=is_certain)

    def _told(
        self, rows: Ints, names: dict[str, Flags], *, is_certain: bool = True, is_end: bool = False
    ) -> Told:
        lines, certain = self.lines[rows] + MAX_HELD + is_end, np.full(len(rows), is_certain)
        return Told(rows, lines, self.done[rows], certain, is_end, names)

    def _shows(self, rows: Ints) -> dict[str, Flags]:
        return {name: metric.piece[rows] >= 0 for name, metric in self.metrics.items()}

    def _stated_of_counts(self, validated: Flags) -> Iterator[Told]:
        is_zero = self.done == 0
        fresh = self.counts & self.has & self.changed
        is_held, is_split = fresh & is_zero, fresh & ~is_zero
        again = self.again & self.has
        if self.state.counts_first:
            again &= ~is_zero
            is_split |= again & (self.changed | validated)
            is_split |= self._next_counts(is_split, again & ~is_split)
        else:
            if self.state.counts_first is None:
                self._next_counts(is_split, again[:0])
            total = self.positions["total"]
            is_full = self.done >= total
            is_held |= again & ~is_full & (self.changed | ~is_zero | self._follows_a_change())
            yield self._at_end(np.flatnonzero(again & is_full & self.changed))
        is_held[: self.start - 1] = True
        yield from self._held(np.flatnonzero(is_held))
        yield from self._set(np.flatnonzero(is_split), validated & self.again)

    def _follows_a_change(self) -> Flags:
        """Return, for each row, whether a value was held back at its count before it."""
        held = self.changed & self.has
        held[: self.start - 1] = True
        before: Ints = np.cumsum(held) - held
        starts = np.concatenate([[0], np.flatnonzero(self.counts)])
        follows: Flags = before > before[starts[self._group]]
        return follows

    def _at_end(self, rows: Ints) -> Told:
        ends = self.state.ends
        names = {name: own for name, own in self._shows(rows).items() if name in ends}
        return self._told(rows, names, is_end=True)

    def _set(self, rows: Ints, validated: Flags) -> Iterator[Told]:
        """Yield values that were set at the bar's count."""
        validated, ends = validated[rows], self.state.ends
        batch, epoch = {}, {}
        for name, shows in self._shows(rows).items():
            if name in ends:
                epoch[name] = shows & (validated | self.metrics[name].differs(rows, rows - 1))
            else:
                batch[name] = shows & ~validated
        yield self._told(rows, batch)
        yield self._told(rows, epoch, is_end=True)

    def _held(self, held: Ints) -> Iterator[Told]:
        """Yield values that were held back, with the counts that they belong to."""
        starts = np.flatnonzero(self.counts)
        is_over = self._group[held] < len(starts)
        self._left = held[~is_over]
        held = held[is_over]
        if not len(held):
            return
        group = self._group[held]
        next_row = starts[group]
        room = self.done[next_row] - self.done[next_row - 1]
        room[self.begins[next_row]] = np.inf
        # Some were drawn again, around other output.
        is_repeat = np.zeros(len(held), dtype=bool)
        is_repeat[1:] = (group[1:] == group[:-1]) & ~self._differs(held[1:], held[:-1])
        kept = ~(is_repeat & (np.bincount(group)[group] > room))
        held, group, next_row, room = held[kept], group[kept], next_row[kept], room[kept]
        sizes = np.bincount(group)[group]
        first = np.flatnonzero(np.diff(group, prepend=-1))
        serial = np.arange(len(held)) - np.repeat(first, np.diff(first, append=len(held)))
        yield Told(
            held,
            self.lines[next_row] + serial,
            self.done[next_row - 1] + serial + 1,
            np.isinf(room) | (sizes == room),
            False,
            self._shows(held),
        )

    def _next_counts(self, is_split: Flags, may_be: Flags) -> Flags:
        """Return which rows show a count alone, as long after the last as that one."""
        found = np.zeros(len(self.done), dtype=bool)
        sets = np.flatnonzero(is_split)
        sets = sets[np.diff(self._group[sets], prepend=-1) != 0]
        first = np.full(int(self._group[-1]) + 1, len(self.done))
        first[self._group[sets]] = sets
        rows = np.flatnonzero(may_be)
        rows = rows[first[self._group[rows]] > rows]
        counter = _SetCounts(self, sets)
        for row in rows.tolist():
            found[row] = counter.is_next(row)
        counter.go_to(len(self.done))
        self._last_set = counter.last, counter.stride
        return found

    def end(self) -> None:
        """Put the bar into its state after the rows."""
        state = self.state
        last = self._bar(len(self.done) - 1)
        state.pending = [self._bar(n) for n in self._left.tolist()]
        state.done, state.shown = last.done, last.shown
        state.epoch, state.total = last.epoch, last.total
        state.row, state.key = (), None
        if state.counts_first is not False and self.form.is_of_counts:
            state.last_set, state.stride = self._last_set
        elif self.begins.any():
            state.last_set = 0.0

    def _bar(self, n: int) -> Bar:
        if n < len(self.state.pending):
            return self.state.pending[n]
        row = n - self.start
        form = self.rows.formats[int(self.rows.forms[row])]
        bar = form.bar(form.cut(self.rows.text(row)))
        assert bar is not None  # noqa: S101  # for the type checker: its count is a number
        return bar


class _SetCounts:
    """The last count at which values were set, and its distance from the one before.

    :param sets: the first row of each count at which they certainly were.
    """

    def __init__(self, head: Head, sets: Ints) -> None:
        self.last, self.stride = head.state.last_set, head.state.stride
        self._sets, self._used = sets.tolist(), 0
        self._done = head.done.tolist()
        self._lives: list[int] = np.cumsum(head.begins).tolist()
        self._lives.append(self._lives[-1])
        self._life = 0

    def go_to(self, row: int) -> None:
        """Go on to the state before a row."""
        end = bisect_left(self._sets, row)
        for n in range(max(self._used, end - 2), end):  # those before have no effect
            self._begin(self._sets[n])
            self._set(self._done[self._sets[n]])
        self._used = end
        self._begin(row)

    def is_next(self, row: int) -> bool:
        """Return whether the values of a row were set at its count, and go there."""
        self.go_to(row)
        done = self._done[row]
        if done != self.last + self.stride:
            return False
        self._set(done)
        return True

    def _begin(self, row: int) -> None:
        if self._lives[row] != self._life:
            self._life, self.last = self._lives[row], 0.0

    def _set(self, done: float) -> None:
        if done > self.last:
            self.stride, self.last = done - self.last, done


def _places_of(state: BarState) -> dict[str, float]:
    epoch = state.epoch or Position(np.nan)
    given = (state.done, state.total, epoch.done, epoch.total, None, None)
    return {
        name: np.nan if position is None else position
        for name, position in zip(POSITION_FIELDS, given, strict=True)
    }


def same_as_before(positions: Floats) -> Flags:
    """Return which positions, but the first, are those of the row before."""
    after, before = positions[1:], positions[:-1]
    same: Flags = (after == before) | (np.isnan(after) & np.isnan(before))
    return same
