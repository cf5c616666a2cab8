"""Read many lines together.

Lines are read alone (``line_reader``) until the sequence of their templates has a pattern
(``patterns``).  From then on it is recognized in a tree of templates, and its numbers are converted
together with those of other lines: a program prints the same few lines over and over.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from operator import attrgetter, getitem
from typing import Any

import numpy as np

from .bulk_history import add_columns
from .columns import ColumnBuffer
from .forms import LineSlots
from .history import History
from .line_reader import LineReader, Mode
from .number_columns import TextBlock
from .pattern_rows import STRIDE, PatternRows
from .patterns import find_pattern, slots_that_count
from .plain_lines import MAYBE_ROWS, PLAIN_KINDS
from .records import Record
from .template_cache import MAX_TEMPLATES
from .template_ids import IRREGULAR, TemplateIds
from .trials import in_trial

__all__ = ["BulkReader"]

#: Lines that have no pattern after so many times will have none; those of setup come only once.
_MIN_TIMES = 2
_MAX_TIMES = 3
#: The lines of a longer dict or table are read one by one.
_MAX_LINES = 512
_NO_PATTERN = -1


class _TemplateNode(dict[int, "_TemplateNode"]):
    """A sequence of templates from a mode on; ``number``: of its pattern, if it has one.

    The templates behind a pattern are those from the mode after it on.
    """

    __slots__ = ("after", "mode", "number", "times")

    def __init__(self, mode: Mode | None = None) -> None:
        super().__init__()
        self.mode = mode
        self.number, self.times = _NO_PATTERN, 0
        self.after: _TemplateNode | None = None

    def __missing__(self, template: int) -> _TemplateNode:
        if self.after is None:
            raise KeyError(template)
        found = self[template] = self.after[template]
        return found


_PLAIN = frozenset(PLAIN_KINDS)
_number_of = attrgetter("number")
_READ_ALONE = _TemplateNode()


class BulkReader:
    """Reads the lines of one stream into a history."""

    def __init__(self, reader: LineReader, history: History) -> None:
        self._reader, self._history = reader, history
        self._buffer = ColumnBuffer()
        self._rows = PatternRows(reader, self._buffer, self._add_in_trial)
        reader.bars.read_before = reader.keras.read_before = self._collect
        self._forget()
        self._times: Sequence[float | None] | None = None
        #: The number of lines that were read one by one.
        self.read_alone = 0

    def _forget(self) -> None:
        """Forget all templates: there are too many."""
        self._ids = TemplateIds()
        self._roots: dict[Mode, _TemplateNode] = {}
        self._size = 0
        self._rows.forget()

    def read(self, text: bytes, times: Sequence[float | None] | None = None) -> None:
        """Read lines by their patterns, and those without one alone.

        :param text: lines that are not empty.
        :param times: those of the lines, if they have stamps.
        """
        self._times = times
        if times is not None and self._history.started is None:
            self._history.started = next((time for time in times if time is not None), None)
        if self._ids.are_too_many or self._size > MAX_TEMPLATES:
            self._forget()
        self._block = TextBlock(text)
        self._templates: list[int] = self._ids.of(self._block).tolist()
        self._nodes: list[_TemplateNode] = []
        self._collected = 0
        mode = self._reader.mode
        while len(self._nodes) < len(self._templates):
            mode = self._read_on(mode)
        self._collect()
        self._flush()
        if times:
            self._history.set_time(times[-1])

    def _read_on(self, before: Mode | None) -> Mode | None:
        """Recognize patterns, then read the lines without one until the reader has a mode.

        Return the mode after them.
        """
        start, root = len(self._nodes), None
        if before is not None:
            root = self._follow(self._root(before))
            start = len(self._nodes)
            self._tell_rows_apart(root.mode, start)
            if start == len(self._templates):
                return root.mode
        end, after = self._read_alone(start)
        if root is not None and after is not None:
            self._learn(root, after, start, end)
        return after

    def _follow(self, root: _TemplateNode) -> _TemplateNode:
        """Add the nodes of lines with patterns; return the root of the mode behind them."""
        nodes = self._nodes
        start = len(nodes)
        templates: Any = iter(self._templates)
        templates.__setstate__(start)
        path = itertools.accumulate(templates, getitem, initial=root)
        next(path)
        with contextlib.suppress(KeyError):  # the nodes before it are added
            nodes.extend(path)
        while len(nodes) > start and nodes[-1].number == _NO_PATTERN:
            nodes.pop()
        if len(nodes) > start:
            assert nodes[-1].after is not None  # noqa: S101  # for the type checker
            root = nodes[-1].after
            assert root.mode is not None  # noqa: S101  # for the type checker
            self._reader.go_to(root.mode)
        return root

    def _tell_rows_apart(self, mode: Mode | None, start: int) -> None:
        """Number the lines anew from the first one on that may be the row of a table."""
        if (
            mode is not None
            and mode.table.columns
            and start < len(self._templates)
            and self._templates[start] in MAYBE_ROWS
            and self._ids.tell_rows_apart(mode.table)
        ):
            self._templates[start:] = self._ids.of(self._block)[start:].tolist()

    def _read_alone(self, start: int) -> tuple[int, Mode | None]:
        """Read lines until none is incomplete; return the end of them, and the mode there."""
        end, mode = start, None
        while end < len(self._templates):
            self._add(self._reader.read(self._block.line(end)), (end + 1) * STRIDE)
            end += 1
            self.read_alone += 1
            mode = self._reader.mode
            if mode is not None:
                break
        self._nodes += [_READ_ALONE] * (end - start)
        return end, mode

    def _learn(self, root: _TemplateNode, after: Mode, start: int, end: int) -> None:
        """Note the lines that were read, and their pattern when they come again."""
        templates = self._templates[start:end]
        if len(templates) > _MAX_LINES or IRREGULAR in templates:
            return
        is_alone = len(templates) == 1
        if not _PLAIN.isdisjoint(templates) and not (is_alone and _is_plain(root.mode)):
            return
        node = root
        for template in templates:
            self._size += template not in node
            node = node.setdefault(template, _TemplateNode())
        node.times += 1
        if root.mode is None or not _MIN_TIMES <= node.times <= _MAX_TIMES:
            return
        lines = [self._block.line(n) for n in range(start, end)]
        slots = [self._ids.slots(start + n, template) for n, template in enumerate(templates)]
        pattern = find_pattern(root.mode, lines, slots)
        number = None
        if pattern is not None and pattern.after == after:
            number = self._rows.add(pattern, lines, slots)
        if number is not None:
            node.clear()
            node.number, node.after = number, self._root(after)
        elif any(slots):
            self._divide(root.mode, lines, slots, start)

    def _divide(
        self, mode: Mode, lines: Sequence[bytes], slots: Sequence[LineSlots | None], start: int
    ) -> None:
        """Tell the lines of forms apart that have no pattern together."""
        for n, own in enumerate(slots):
            number = self._templates[start + n]
            if own is not None and self._ids.is_whole(number):
                literal = slots_that_count(mode, lines, n, own)
                self._ids.divide(number, literal, self._templates, start)

    def _root(self, mode: Mode) -> _TemplateNode:
        root = self._roots.get(mode)
        if root is None:
            self._size += 1
            root = self._roots[mode] = _TemplateNode(mode)
        return root

    def _add(self, records: Sequence[Record], n: int) -> None:
        for k, record in enumerate(records):
            if record.kind == "attempt":
                self._collect()
                self._flush()
                self._history.add(record)
            else:
                self._buffer.add(record, n + k)

    def _add_in_trial(self, records: Sequence[Record], n: int) -> None:
        self.read_alone += 1
        self._add([in_trial(each, self._reader.trial) for each in records], n)

    def _collect(self) -> None:
        """Convert the numbers of all lines that were recognized so far."""
        start, end = self._collected, len(self._nodes)
        if start < end:
            self._collected = end
            count = end - start
            numbers = np.fromiter(map(_number_of, self._nodes[start:end]), np.int64, count)
            self._rows.collect(self._block, numbers, start, self._ids.edges)

    def _flush(self) -> None:
        columns = self._buffer.take()
        if columns:
            add_columns(self._history, columns, self._time_of if self._times else None)

    def _time_of(self, n: int) -> float | None:
        """Return the time of a record by its serial number."""
        assert self._times is not None  # noqa: S101  # for the type checker
        return self._times[n // STRIDE - 1]


def _is_plain(mode: Mode | None) -> bool:
    """Return whether plain lines end no section there by their indentation."""
    return not (
        mode is None or mode.section.is_indented or mode.key_values[0] in ("result", "loaders")
    )
