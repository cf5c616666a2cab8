"""Progress bars of many lines, as columns.  Pure.

In the lines of one template every number stands at a fixed offset.  Metrics are compared as they
are printed: two texts are equal if they have the same template and the same digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .bar_lines import BarFormat
from .fixed_width import MAX_CODE_DIGITS, Floats, code_of, column_of
from .numbers import as_float
from .template_cache import PLAIN_COUNT, PLAIN_NUMBER, masked

__all__ = ["POSITION_FIELDS", "BarLines", "BarRows", "Ints", "Metric", "Texts", "fits", "is_short"]

Ints: TypeAlias = "npt.NDArray[np.int64]"
#: The positions that a bar may show.
POSITION_FIELDS = ("done", "total", "epoch", "epochs", "step")
#: More columns than this are not made: a log may invent names of metrics.
_MAX_CELLS = 1 << 22
_MAX_NAMES = 40
_ABSENT = -1


def fits(form: BarFormat, template: bytes) -> bool:
    """Return whether the fields of a template of lines can be read as columns."""
    parts = form.template
    spans = [(span, PLAIN_COUNT) for span in parts.spans]
    spans += [(span, PLAIN_NUMBER) for span in parts.values]
    return (
        parts.kind in ("", "validation")
        and len(set(parts.names)) == len(parts.names) <= _MAX_NAMES
        and all(
            plain.match(template[start:end]) and template.count(b"0", start, end) <= MAX_CODE_DIGITS
            for (start, end), plain in spans
        )
    )


class BarLines:
    """Lines of one template that begin with a bar, and their serial numbers.

    :param used: where the object enters itself with its first line.
    """

    __slots__ = ("_template", "_used", "fields", "form", "lines", "texts", "values")

    def __init__(self, form: BarFormat, template: bytes, used: list[BarLines]) -> None:
        self.form, self._template, self._used = form, template, used
        parts = form.template
        self.fields = [
            (name, column_of(template, span))
            for name, span in zip(parts.fields, parts.spans, strict=True)
        ]
        self.values = [
            (name, column_of(template, span), code_of(template, span), template[slice(*span)])
            for name, span in zip(parts.names, parts.values, strict=True)
        ]
        self.lines: list[int] = []
        self.texts: list[bytes] = []

    def add(self, line: bytes, n: int) -> bool:
        """Add a line; return True, since nothing else changes by it."""
        if not self.lines:
            self._used.append(self)
        self.lines.append(n)
        self.texts.append(line)
        return True

    def take(self) -> tuple[list[int], list[bytes]]:
        """Return the serial numbers and the lines, and forget them."""
        taken = self.lines, self.texts
        self.lines, self.texts = [], []
        return taken

    def matrix(self, texts: Sequence[bytes]) -> npt.NDArray[np.uint8]:
        return np.frombuffer(b"".join(texts), dtype=np.uint8).reshape(-1, len(self._template))


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

    def differs(self, rows: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Return for which of the rows the text differs from that of the other row."""
        differs: npt.NDArray[np.bool_] = (self.piece[rows] != self.piece[others]) | (
            self.code[rows] != self.code[others]
        )
        return differs


class BarRows(NamedTuple):
    """Bars in the order of their lines.

    ``forms``: the number of each bar's format in ``formats``; ``shown``: a number for the names of
    the metrics that it shows; ``positions``: NaN if not given.
    """

    lines: Ints
    forms: Ints
    shown: Ints
    positions: Mapping[str, Floats]
    metrics: Mapping[str, Metric]
    formats: Sequence[BarFormat]
    texts: Sequence[bytes]

    def of(self, rows: Ints) -> BarRows:
        """Return some of the rows."""
        if len(rows) == len(self.lines):
            return self
        used = np.unique(self.forms[rows]).tolist()
        names = {name for n in used for name in self.formats[n].template.names}
        return BarRows(
            self.lines[rows],
            self.forms[rows],
            self.shown[rows],
            {name: column[rows] for name, column in self.positions.items()},
            {name: own.of(rows) for name, own in self.metrics.items() if name in names},
            self.formats,
            [self.texts[n] for n in rows.tolist()],
        )

    @classmethod
    def made(cls, sources: Sequence[BarLines], texts: Texts) -> BarRows | None:
        """Return the bars of all sources, and forget them there; None, if they are too many."""
        names = dict.fromkeys(name for source in sources for name in source.form.template.names)
        count = sum(len(source.lines) for source in sources)
        if len(names) > _MAX_NAMES or len(names) * count > _MAX_CELLS:
            return None
        taken = [source.take() for source in sources]
        lines = np.array([n for own, _ in taken for n in own], dtype=np.int64)
        order = np.argsort(lines, kind="stable")
        at = np.empty(count, dtype=np.int64)
        at[order] = np.arange(count)
        joined = [text for _, own in taken for text in own]
        formats = list({id(source.form): source.form for source in sources}.values())
        rows = cls(
            lines[order],
            np.empty(count, dtype=np.int64),
            np.empty(count, dtype=np.int64),
            {name: np.full(count, np.nan) for name in POSITION_FIELDS},
            {name: Metric.empty(count) for name in names},
            formats,
            [joined[n] for n in order.tolist()],
        )
        start = 0
        for source, (own, own_texts) in zip(sources, taken, strict=True):
            rows._fill(source, own_texts, at[start : start + len(own)], texts)
            start += len(own)
        return rows

    def _fill(self, source: BarLines, lines: Sequence[bytes], at: Ints, texts: Texts) -> None:
        matrix = source.matrix(lines)
        self.forms[at] = self.formats.index(source.form)
        self.shown[at] = texts.number(source.form.template.names)
        for name, column in source.fields:
            self.positions[name][at] = column(matrix)
        for name, column, codes, piece in source.values:
            metric = self.metrics[name]
            metric.value[at] = column(matrix)
            metric.piece[at] = texts.number(piece)
            metric.code[at] = codes(matrix)
