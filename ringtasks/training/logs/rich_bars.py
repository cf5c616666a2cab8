"""The bars of Lightning's ``RichProgressBar``, as a file gets them: wrapped to the width of a page.

    Epoch 2/2  ━━━━━━━━━━━━━━━━━ 22/22 0:01:42 • 0:00:00 0.22it/s v_num: 0.000 train_loss:
                                                                  0.432 val_loss: 0.532

At the end of an epoch the bar is printed again, with the metrics that changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .numbers import as_float
from .records import Position, Record
from .text_lines import parse_fields

__all__ = ["RichBarLines", "read_rich_bar"]

#: In UTF-8, "━", "╸" or "╺", and "•".
_FILL = "(?:\xe2\x94\x81|\xe2\x95[\xb8\xba])"
_BULLET = "\xe2\x80\xa2"
_BAR = re.compile(
    rf"Epoch (?P<epoch>\d+)/(?P<epochs>-?\d+)\s+{_FILL}+\s*(?P<done>\d+)/(?P<total>\d+)\s+"
    rf"[\d:]+ {_BULLET}\s+(?:[\d:-]+\s+)?[\d.]+it/s(?P<metrics>.*)",
    re.ASCII,
)
#: The column of times may be wrapped, too.
_TIME_LEFT = re.compile(r"\A\s+(?:\d+:\d\d:\d\d(?:\s+|\Z))?", re.ASCII)
_GOES_ON = re.compile(r"\s{16,}\S", re.ASCII)
_MAX_LINES = 64


class RichBarLines:
    """Joins the lines of a bar."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @property
    def is_open(self) -> bool:
        return bool(self._lines)

    def concerns(self, text: str) -> bool:
        """Return whether a line is of a bar, or follows one."""
        return self.is_open or (text.startswith("Epoch ") and _BAR.match(text) is not None)

    def read(self, text: str) -> Iterator[str]:
        """Yield the lines that are complete."""
        if self._lines and len(self._lines) < _MAX_LINES and _GOES_ON.match(text):
            self._lines.append(text)
            return
        yield from self.release()
        if _BAR.match(text):
            self._lines = [text]
        else:
            yield text

    def release(self) -> Iterator[str]:
        """Yield the bar that is held back."""
        lines, self._lines = self._lines, []
        if lines:
            yield " ".join([lines[0].strip(), *(_TIME_LEFT.sub("", line) for line in lines[1:])])


def read_rich_bar(text: str) -> Record | None:
    """Return the state that a bar shows; None if the text is no such bar."""
    found = _BAR.match(text) if text.startswith("Epoch ") else None
    if found is None:
        return None
    epochs = float(found["epochs"])
    positions = {
        "epoch": Position(float(found["epoch"]), epochs if epochs > 0 else None),
        "batch": Position(float(found["done"]), float(found["total"]) or None),
    }
    values = [
        (value.name, number)
        for value in parse_fields(found["metrics"], found.start("metrics"))
        if (number := as_float(text[slice(*value.span)])) is not None
    ]
    return Record(positions, values, kind="bar")
