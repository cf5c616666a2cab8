"""Progress bars as tqdm draws them, and the metrics beside them.

A bar is drawn many times, and its metrics stay on it until they are set again, so most of what a
bar shows is old.  Which count a value belongs to depends on the loop:

- ``for batch in tqdm(...)``: ``set_postfix`` draws while the bar's count is still that of an
  earlier batch, because tqdm counts only when it draws by itself.  The values drawn between two
  counts belong to the batches between them, if there are as many.
- ``bar.update(1)`` before ``set_postfix``, as Lightning does: the count is the value's.

tqdm/std.py: ``format_meter``, ``__iter__``, ``set_postfix``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .bar_lines import Bar, BarFormat, held_out
from .numbers import as_float, counted
from .records import Position, Record
from .words import name_in

__all__ = ["MAX_HELD_BARS", "BarReader", "BarState"]

#: The values of so many bars wait for the next count; those of more get no position.
MAX_HELD_BARS = 1000


class BarState:
    """One bar over its life."""

    def __init__(self, bar: Bar) -> None:
        self.counts_first: bool | None = None  # bar.update(1), then set_postfix
        self.pending: list[Bar] = []
        self.ends: set[str] = set()  # metrics that are set when an epoch ends
        self.known: set[str] = set()
        self.stride = 1.0
        self.begin(bar, ())

    def begin(self, bar: Bar, shown: tuple[tuple[str, bytes], ...]) -> None:
        """Begin a further life of the bar: its next epoch."""
        self.done, self.shown = -1.0, shown
        self.epoch, self.total = bar.epoch, bar.total
        self.last_set = 0.0
        self.row: tuple[bytes, ...] = ()
        self.key: object = None


class BarReader:
    """Reads the states of all bars of a log, in order."""

    def __init__(self) -> None:
        #: Reads bars that were collected, and come before the line that is read next.
        self.read_before: Callable[[], object] = list
        self.states: dict[str, BarState] = {}
        self.has_validated = False
        self.epoch_length: float | None = None
        self.odd_epoch = math.inf
        self.is_lightning = False
        #: The lowest rank that draws bars; those of others are not read.
        self.rank = math.inf

    def read(self, line: bytes, form: BarFormat) -> list[Record]:
        """Return what the bar of a line tells beyond those before it."""
        template = form.template
        if template.kind == "other":
            return []
        self.read_before()
        row = form.cut(line)
        if "rank" in form.index:
            rank = int(row[form.index["rank"]])
            self.rank = min(self.rank, rank)
            if rank > self.rank:
                return []
        if template.kind:
            self.has_validated = True
            return []
        state = self.states.get(template.head)
        at = form.done
        if (
            state is not None
            and state.key == form.key
            and state.row[:at] == row[:at]
            and state.row[at + 1 :] == row[at + 1 :]
            and (done := counted(row[at])) is not None
            and done > state.done
            and not state.pending
        ):
            state.done, self.has_validated = done, False  # it shows nothing new
            return self._places(form, done, state.total, state.epoch)
        bar = form.bar(row)
        if bar is None:
            return []
        records = self._read(bar)
        state = self.states[template.head]
        is_of_counts = bar.step is None and template.unit != "uncertain"
        state.row, state.key = row, form.key if is_of_counts else None
        return records + self._places(form, bar.done, bar.total, bar.epoch)

    def note_lightning(self) -> None:
        """Note that Lightning has printed the lines from now on."""
        if not self.is_lightning:
            self.read_before()
            self.is_lightning = True

    @staticmethod
    def _places(
        form: BarFormat, done: float, total: float | None, epoch: Position | None
    ) -> list[Record]:
        """Return what a bar without metrics tells, too: its count, or the epoch of what follows."""
        if form.is_bare:
            return [Record({"": Position(done, total)}, kind="count")]
        epoch = Position(done, total) if form.template.unit == "epoch" else epoch
        return [Record({"epoch": epoch}, kind="bar")] if epoch else []

    def _read(self, bar: Bar) -> list[Record]:
        template = bar.template
        state = self.states.get(template.head)
        if state is None:
            state = self.states[template.head] = BarState(bar)
        records: list[Record] = []
        if bar.done < state.done or bar.epoch != state.epoch or bar.total != state.total:
            records += self._flush(state)
            state.begin(bar, state.shown)
        if template.unit == "uncertain":
            changed = bar.shown and bar.shown != state.shown
            records += [self._record(bar, bar.shown, is_certain=False)] if changed else []
        elif bar.step is not None:  # the text tells the step
            changed = bar.shown and (bar.shown != state.shown or bar.done != state.done)
            records += [self._record(bar, bar.shown)] if changed else []
        elif bar.done == state.done:
            records += self._drawn_again(bar, state)
        else:
            records += self._counted_on(bar, state)
        state.done, state.shown = bar.done, bar.shown
        return records

    def end(self) -> list[Record]:
        """Return what is held back because the bar's next count was awaited."""
        self.read_before()
        return [record for state in self.states.values() for record in self._flush(state)]

    def _counted_on(self, bar: Bar, state: BarState) -> list[Record]:
        self.has_validated = False
        records = self._flush(state, bar.done) if state.pending else []
        if not bar.shown or bar.shown == state.shown:
            return records
        if bar.done == 0:
            state.counts_first = bool(state.counts_first)
            state.pending.append(bar)
            return records
        return records + self._set(bar, state)

    def _drawn_again(self, bar: Bar, state: BarState) -> list[Record]:
        changed = bar.shown != state.shown
        if state.counts_first is None and changed:
            state.counts_first = bar.done > 0
        if not bar.shown or (not changed and bar.done == 0 and not state.pending):
            return []
        if state.counts_first:
            is_next = bar.done == state.last_set + state.stride
            if bar.done and (changed or self.has_validated or is_next):
                return self._set(bar, state)
        elif bar.total is None or bar.done < bar.total:
            state.pending.append(bar)
            if len(state.pending) > MAX_HELD_BARS:  # a loop that never counts
                return self._flush(state, state.done)
        elif changed:
            return self._at_end(bar, state)
        return []

    def _at_end(self, bar: Bar, state: BarState) -> list[Record]:
        """Return metrics that appear when the bar is full; those known before may be means now."""
        new = [each for each in bar.shown if each[0] not in state.known or each[0] in state.ends]
        state.ends |= {name for name, _ in new}
        return [self._record(bar, new, is_end=True)] if new else []

    def _set(self, bar: Bar, state: BarState) -> list[Record]:
        """Return the metrics that were set at the bar's count."""
        is_full = bar.total is not None and bar.done >= bar.total
        before = dict(state.shown)
        new = {name for name, _ in bar.shown} - state.known
        if (is_full and state.known) or self.has_validated:
            state.ends |= new
        state.known |= new
        fresh = [
            (name, text)
            for name, text in bar.shown
            if name not in state.ends or before.get(name) != text or self.has_validated
        ]
        if self.has_validated:
            fresh = [each for each in fresh if each[0] in state.ends]
        self.has_validated = False
        if bar.done > state.last_set:
            state.stride, state.last_set = bar.done - state.last_set, bar.done
        batch = [each for each in fresh if each[0] not in state.ends]
        epoch = [each for each in fresh if each[0] in state.ends]
        records = [self._record(bar, batch)] if batch else []
        return [*records, self._record(bar, epoch, is_end=True)] if epoch else records

    def _flush(self, state: BarState, done: float | None = None) -> list[Record]:
        """Return what was set since the bar's last count, with the counts that it belongs to."""
        pending, state.pending = state.pending, []
        if not pending:
            return []
        start = state.done
        end = done if done is not None else start + len(pending)
        if len(pending) > end - start:  # some were drawn again, around other output
            pending = [
                each
                for n, each in enumerate(pending)
                if not n or each.shown != pending[n - 1].shown
            ]
        is_certain = len(pending) == end - start
        records = []
        for n, bar in enumerate(pending, 1):
            state.known |= {name for name, _ in bar.shown}
            counted = bar._replace(done=start + n)
            records.append(self._record(counted, bar.shown, is_certain=is_certain))
        return records

    def _record(
        self,
        bar: Bar,
        shown: Sequence[tuple[str, bytes]],
        *,
        is_certain: bool = True,
        is_end: bool = False,
    ) -> Record:
        positions: dict[str, Position] = {}
        if bar.epoch is not None:
            positions["epoch"] = bar.epoch
        if bar.step is not None:
            positions["step"] = Position(bar.step)
        elif self.is_lightning and bar.epoch is not None and bar.total:
            positions |= self._lightning_positions(bar, bar.epoch, is_end=is_end)
        elif is_certain:
            positions[bar.template.unit or "step"] = Position(bar.done, bar.total)
        part = held_out(bar.template.head)
        values = [
            (name_in(part, name), number)
            for name, text in shown
            if (number := as_float(text)) is not None
        ]
        return Record(positions, values, kind="bar" if is_certain else "line")

    def _lightning_positions(
        self, bar: Bar, epoch: Position, *, is_end: bool
    ) -> dict[str, Position]:
        """Return the batch, and the step over all epochs, which Lightning counts from epoch 0."""
        assert bar.total is not None  # noqa: S101  # for the type checker
        positions = {} if is_end else {"batch": Position(bar.done, bar.total)}
        self.epoch_length = self.epoch_length or bar.total
        if bar.total != self.epoch_length:
            self.odd_epoch = min(self.odd_epoch, epoch.done)
        if epoch.done <= self.odd_epoch:  # all epochs before were as long as the first
            positions["step"] = Position(epoch.done * self.epoch_length + bar.done)
        return positions
