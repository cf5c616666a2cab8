"""Read many lines together.

A line is read alone (``line_reader``) until its template has a plan (``line_plans``).  From then on
its numbers are converted together with those of other lines: a program prints the same few lines
over and over.
"""

from __future__ import annotations

from collections.abc import Sequence

from .bar_columns import BarBuffer
from .bulk_history import add_columns
from .columns import ColumnBuffer
from .history import History
from .line_plans import LinePlan, Planner
from .line_reader import LineReader, Mode
from .records import Record
from .template_cache import MAX_TEMPLATES, masked
from .trials import in_trial

__all__ = ["BulkReader"]

#: A template that has no plan after so many lines will have none.
_MAX_TRIES = 3
#: The distance between the serial numbers of lines: a line may give several records.
_STRIDE = 1 << 20


class _Known:
    """The plans of one mode, and how often lines without one were read."""

    def __init__(self) -> None:
        self.plans: dict[bytes, LinePlan] = {}
        self.tries: dict[bytes, int] = {}


class BulkReader:
    """Reads the lines of one stream into a history."""

    def __init__(self, reader: LineReader, history: History) -> None:
        self._reader, self._history = reader, history
        self._buffer = ColumnBuffer()
        self._bars = BarBuffer(reader.bars, self._buffer, self._add_in_trial, lambda: reader.trial)
        self._planner = Planner(self._reader, self._buffer, self._bars, self._add)
        self._known: dict[Mode | None, _Known] = {}
        self._templates = 0
        self._times: Sequence[float | None] | None = None
        #: The number of lines that had no plan.
        self.read_alone = 0

    def read(self, lines: Sequence[bytes], times: Sequence[float | None] | None = None) -> None:
        """Read lines by their plans, and those without one alone.

        :param times: those of the lines, if they have stamps.
        """
        self._times = times
        if times is not None and self._history.started is None:
            self._history.started = next((time for time in times if time is not None), None)
        if self._templates > MAX_TEMPLATES:
            self._forget()
        plans = self._of_mode(self._reader.mode).plans
        n = 0
        for line, template in zip(lines, masked(b"\n".join(lines)).split(b"\n"), strict=True):
            n += _STRIDE
            plan = plans.get(template)
            if plan is None or (plan.is_checked and not plan.fits(line)):
                self._read_alone(line, template, n)
                plans = self._of_mode(self._reader.mode).plans
                continue
            if plan.lines is not None:
                plan.lines.lines.append(n)
                plan.lines.texts.append(line)
            elif plan.take is not None and not plan.take(line, n):
                plans = self._of_mode(self._reader.mode).plans
                continue
            if plan.next is not None:
                self._reader.go_to(plan.next)
                plans = self._of_mode(plan.next).plans
        self._flush()
        if times:
            self._history.set_time(times[-1])

    def _of_mode(self, mode: Mode | None) -> _Known:
        known = self._known.get(mode)
        if known is None:
            known = self._known[mode] = _Known()
        return known

    def _read_alone(self, line: bytes, template: bytes, n: int) -> None:
        self.read_alone += 1
        before = self._reader.mode
        records = self._reader.read(line)
        self._add(records, n)
        known = self._of_mode(before)
        tries = known.tries.get(template, 0) + 1
        if before is None or tries > _MAX_TRIES:
            return
        self._templates += tries == 1
        known.tries[template] = tries
        after = self._reader.mode
        if tries > 1 and after is not None and template not in known.plans:
            plan = self._planner.plan(line, before, after, records)
            if plan is not None:
                known.plans[template] = plan

    def _add(self, records: Sequence[Record], n: int) -> None:
        for k, record in enumerate(records):
            if record.kind == "attempt":
                self._flush()
                self._history.add(record)
            else:
                self._buffer.add(record, n + k)

    def _add_in_trial(self, records: Sequence[Record], n: int) -> None:
        self._add([in_trial(each, self._reader.trial) for each in records], n)

    def _flush(self) -> None:
        self._bars.flush()
        columns = self._buffer.take()
        if columns:
            add_columns(self._history, columns, self._time_of if self._times else None)

    def _time_of(self, n: int) -> float | None:
        """Return the time of a record by its serial number."""
        assert self._times is not None  # noqa: S101  # for the type checker
        return self._times[n // _STRIDE - 1]

    def _forget(self) -> None:
        self._known.clear()
        self._planner.forget()
        self._buffer.forget_templates()
        self._templates = 0
