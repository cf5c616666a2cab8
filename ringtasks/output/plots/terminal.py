"""Curves as lines of text, in dots that plotille sets.  Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from plotille import Canvas, color

from ringtasks.output.foreign_text import shown

from .chart import Panel, PlotLine, ticks

__all__ = ["draw", "draw_panel", "in_ascii", "legend", "short"]

_LABEL_WIDTH = 9
_EDGE = "▕"
_TICK_WIDTH = 12
#: For the edge, a place without dots, and one with dots.
_ASCII = {ord(_EDGE): "|", 0x2800: " ", **dict.fromkeys(range(0x2801, 0x2900), "*")}
#: Of lines, in their order; the text of the legend has the line's colour, too.
COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan", "white")


def legend(line: PlotLine, n: int, *, has_colours: bool = False) -> str:
    """Return the text above a picture that names its n-th line."""
    text = f"{shown(line.label)}: last {short(line.values[-1])}"
    if not has_colours:
        return text
    return str(color(text, fg=COLOURS[n % len(COLOURS)]))


def draw_panel(
    panel: Panel, width: int, height: int, *, is_log: bool = False, has_colours: bool = False
) -> list[str]:
    """Return the lines of a panel: the metric, the picture, the ticks of x and the axis."""
    plot = draw(panel.lines, width, height, is_log=is_log, has_colours=has_colours)
    if not plot:
        return []
    xs = [x for line in panel.lines for x, _ in line.points]
    margin = plot[0].index(_EDGE) + 1
    return [
        shown(panel.metric),
        *plot,
        " " * margin + _x_ticks(min(xs), max(xs), width - margin),
        f"{panel.x_label:>{width}}",
    ]


def draw(
    lines: Sequence[PlotLine],
    width: int,
    height: int,
    *,
    is_log: bool = False,
    has_colours: bool = False,
) -> list[str]:
    """Return ``height`` lines of at most ``width`` characters; the scale is beside them.

    Values that are not numbers are left out; without any number there are no lines.
    """
    points = [point for line in lines for point in line.points]
    if not points or height < 1:
        return []
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    labels = _labels(low, high, height)
    label_width = max(_LABEL_WIDTH, *map(len, labels.values()))
    across = width - label_width - 1
    if across < 2:
        return []
    scale = math.log10 if is_log else float
    canvas = Canvas(across, height, *_limits(xs, [scale(low), scale(high)], across, height))
    for n, line in enumerate(lines):
        colour = COLOURS[n % len(COLOURS)] if has_colours else None
        scaled = [(x, scale(y)) for x, y in line.points]
        for (x0, y0), (x1, y1) in itertools.pairwise(scaled if len(scaled) > 1 else 2 * scaled):
            canvas.line(x0, y0, x1, y1, color=colour)
    return [
        f"{labels.get(row, ''):>{label_width}}{_EDGE}{line}"
        for row, line in enumerate(canvas.plot("\n").split("\n"))
    ]


def in_ascii(lines: Sequence[str]) -> list[str]:
    """Return the lines of a picture in ASCII, with one character for the dots of a place."""
    return [line.translate(_ASCII) for line in lines]


def short(value: float) -> str:
    """Return a number in about nine characters."""
    return f"{value:.4g}"


def _labels(low: float, high: float, height: int) -> dict[int, str]:
    """Return the labels of y by their rows, with as many digits as tell them apart."""
    if low == high:
        return {height // 2: short(low)}
    texts = [(f"{low:.{digits}g}", f"{high:.{digits}g}") for digits in range(4, 18)]
    low_text, high_text = next((pair for pair in texts if pair[0] != pair[1]), texts[-1])
    return {height - 1: low_text, 0: high_text}


def _limits(
    xs: Sequence[float], ys: Sequence[float], across: int, down: int
) -> tuple[float, float, float, float]:
    """Return the canvas' corners so that the extreme points lie in its outermost dots."""
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    if y_low == y_high:
        y_low, y_high = y_low - 0.5, y_high + 0.5
    return (
        x_low, y_low,
        x_high + (x_high - x_low or 1.0) / (2 * across - 1),
        y_high + (y_high - y_low) / (4 * down - 1),
    )  # fmt: skip


def _x_ticks(low: float, high: float, across: int) -> str:
    """Return whole numbers below their places."""
    row = [" "] * (across + 1)
    for tick in ticks(low, high, max(1, across // _TICK_WIDTH), is_whole=True):
        text = f"{tick:.12g}"
        at = round((tick - low) / (high - low) * (across - 1)) if high > low else 0
        start = max(0, min(at - len(text) // 2, across - len(text)))
        if all(char == " " for char in row[max(0, start - 1) : start + len(text) + 1]):
            row[start : start + len(text)] = text
    return "".join(row).rstrip()
