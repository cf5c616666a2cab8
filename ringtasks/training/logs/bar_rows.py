"""Progress bars of many lines, as columns.  Pure.

In the lines of one template every number stands at a fixed offset.  Metrics are compared as they
are printed: two texts are equal if they have the same template and the same digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .bar_lines import BarFormat
from .number_columns import (
    MAX_CODE_DIGITS,
    Flags,
    Floats,
    Ints,
    NumberColumns,
    NumberPlace,
    TextBlock,
    in_order,
)
from .numbers import as_float
from .parsed import Span
from .template_cache import masked

__all__ = ["POSITION_FIELDS", "BarLines", "BarRows", "Metric", "Texts", "fits", "is_short"]

#: The positions that a bar may show.
POSITION_FIELDS = ("done", "total", "epoch", "epochs", "step", "rank")
#: More columns than this are not made: a log may invent names of metrics.
_MAX_CELLS = 1 << 22
_MAX_NAMES = 40
_ABSENT = -1
#: Numbers as they are in templates: metrics, and counts, which may be scaled.
_NUMBER = re.compile(
    rb"[-+]?(?:(?:0{1,99}\.?0*|\.0+)(?:[eE][-+]?0{1,2})?|0{1,3}(?:[,_]000)+(?:\.0+)?"
    rb"|(?i:nan|inf|infinity))\Z"
)
_COUNT = re.compile(rb"(?:0{1,99}\.?0*|0{1,3}(?:[,_]000)+)[kKMGT]?\Z")


def fits(form: BarFormat, template: bytes) -> bool:
    """Return whether the fields of a template of lines can be read as columns."""
    parts = form.template
    spans = [(span, _COUNT) for span in parts.spans]
    spans += [(span, _NUMBER) for span in parts.values]
    return (
        parts.kind in ("", "validation")
        and len(set(parts.names)) == len(parts.names) <= _MAX_NAMES
        and all(
            plain.match(template[start:end]) and template.count(b"0", start, end) <= MAX_CODE_DIGITS
            for (start, end), plain in spans
        )
    )


class BarLines(NamedTuple):
    """Lines of one template that begin with a bar.

    ``rows``: their indices in the block; ``lines``: their serial numbers; ``values``: the columns
    of the metrics, with the shape of their texts.
    """

    form: BarFormat
    rows: Ints
    lines: Ints
    fields: Sequence[tuple[str, NumberPlace]]
    values: Sequence[tuple[str, NumberPlace]]

    @classmethod
    def of(
        cls, form: BarFormat, template: bytes, rows: Ints, lines: Ints, columns: NumberColumns
    ) -> BarLines:
        """Return lines, of which the numbers are not converted yet."""
        starts = columns.block.starts[rows]

        def added(names: Sequence[str], spans: Sequence[Span]) -> list[tuple[str, NumberPlace]]:
            return [
                (name, columns.add(template[start:end], starts + start))
                for name, (start, end) in zip(names, spans, strict=True)
            ]

        parts = form.template
        return cls(
            form, rows, lines, added(parts.fields, parts.spans), added(parts.names, parts.values)
        )


class Texts:
    """Numbers for the templates of texts, and for the names that bars show together."""

    def __init__(self) -> None:
        self._known: dict[object, int] = {}

    def number(self, key: object) -> int:
        """Return the number of a key, a new one if it is not known yet."""
        return self._known.setdefault(key, len(self._known))

    def identity(self, text: bytes) -> tuple[int, int]:
        """Return the numbers that only equal texts share; ``text``: see `is_short`."""
        return self.number(masked(text)), int(_digits(text) or b"0")


def is_short(text: bytes) -> bool:
    """Return whether the digits of a text are few enough for a number."""
    return len(_digits(text)) <= MAX_CODE_DIGITS


def _digits(text: bytes) -> bytes:
    return bytes(char for char in text if char in b"0123456789")


class Metric(NamedTuple):
    """A metric of bars: its values, and its texts as ``piece`` (-1: not shown) and ``code``."""

    value: Floats
    piece: Ints
    code: Ints

    @classmethod
    def empty(cls, count: int) -> Metric:
        """Return the metric of bars that do not show it."""
        return cls(
            np.full(count, np.nan),
            np.full(count, _ABSENT, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
        )

    @classmethod
    def of_texts(cls, shown: Sequence[bytes | None], texts: Texts) -> Metric:
        """Return the metric of bars that show these texts; None: a bar does not show it."""
        metric = cls.empty(len(shown))
        for n, text in enumerate(shown):
            if text is not None:
                number = as_float(text)
                metric.value[n] = np.nan if number is None else number
                metric.piece[n], metric.code[n] = texts.identity(text)
        return metric

    def followed_by(self, other: Metric) -> Metric:
        """Return the metric of these bars and others behind them."""
        pairs = zip(self, other, strict=True)
        return Metric(*(np.concatenate(pair) for pair in pairs))

    def of(self, rows: Ints) -> Metric:
        """Return those of some of the rows."""
        return Metric(self.value[rows], self.piece[rows], self.code[rows])

    def differs(self, rows: Ints, others: Ints) -> Flags:
        """Return for which of the rows the text differs from that of the other row."""
        pieces: Flags = self.piece[rows] != self.piece[others]
        codes: Flags = self.code[rows] != self.code[others]
        return pieces | codes


class BarRows(NamedTuple):
    """Bars in the order of their lines.

    ``rows``: the indices of the lines in the block;
    ``forms``: the number of each bar's format in ``formats``; ``shown``: a number for the names of
    the metrics that it shows; ``positions``: NaN if not given.
    """

    lines: Ints
    rows: Ints
    forms: Ints
    shown: Ints
    positions: Mapping[str, Floats]
    metrics: Mapping[str, Metric]
    formats: Sequence[BarFormat]
    block: TextBlock

    def of(self, rows: Ints) -> BarRows:
        """Return some of the rows."""
        if len(rows) == len(self.lines):
            return self
        used = np.unique(self.forms[rows]).tolist()
        names = {name for n in used for name in self.formats[n].template.names}
        return BarRows(
            self.lines[rows],
            self.rows[rows],
            self.forms[rows],
            self.shown[rows],
            {name: column[rows] for name, column in self.positions.items()},
            {name: own.of(rows) for name, own in self.metrics.items() if name in names},
            self.formats,
            self.block,
        )

    @classmethod
    def made(
        cls, sources: Sequence[BarLines], columns: NumberColumns, texts: Texts
    ) -> BarRows | None:
        """Return the bars of all sources; None if they have too many metrics."""
        names = dict.fromkeys(name for source in sources for name in source.form.template.names)
        count = sum(len(source.lines) for source in sources)
        if len(names) > _MAX_NAMES or len(names) * count > _MAX_CELLS:
            return None
        lines, order = in_order([source.lines for source in sources])
        at = np.empty(count, dtype=np.int64)
        at[order] = np.arange(count)
        rows = cls(
            lines,
            np.concatenate([source.rows for source in sources])[order],
            np.empty(count, dtype=np.int64),
            np.empty(count, dtype=np.int64),
            {name: np.full(count, np.nan) for name in POSITION_FIELDS},
            {name: Metric.empty(count) for name in names},
            list({id(source.form): source.form for source in sources}.values()),
            columns.block,
        )
        start = 0
        for source in sources:
            rows._fill(source, columns, at[start : start + len(source.lines)], texts)
            start += len(source.lines)
        return rows

    def text(self, n: int) -> bytes:
        """Return the line of a row."""
        return self.block.line(int(self.rows[n]))

    def _fill(self, source: BarLines, columns: NumberColumns, at: Ints, texts: Texts) -> None:
        self.forms[at] = self.formats.index(source.form)
        self.shown[at] = texts.number(source.form.template.names)
        for name, column in source.fields:
            self.positions[name][at] = columns.values(column)
        for name, column in source.values:
            metric = self.metrics[name]
            metric.value[at] = columns.values(column)
            metric.piece[at] = texts.number(column.shape)
            metric.code[at] = columns.codes(column)
