"""Curves as an SVG picture, without other libraries.  Pure.

Colours are the eight of Okabe and Ito, which people with any colour vision can distinguish.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from ringtasks.training.curves import Curve

__all__ = ["draw", "ticks"]

COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b5a800",
)  # fmt: skip

_WIDTH, _HEIGHT = 800, 450
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 44, 48
_LEGEND_LINE = 18
_LETTER_WIDTH = 7.2  # at 12 pixels: the largest width in most fonts
#: A polyline with more points than pixels only makes the file larger.
_MAX_POINTS = 2000


def draw(curves: Mapping[str, Curve], title: str) -> str:
    """Return a picture of the curves, each under its label.

    :raises ValueError: there is no finite point to draw.
    """
    points = [point for curve in curves.values() for point in _finite(curve)]
    if not points:
        raise ValueError("there is nothing to draw: no metric has a finite value")
    x_scale = _Scale([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    y_scale = _Scale([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label={quoteattr(_plain(title))} '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 24, title, 'text-anchor="middle" font-size="16"'),
        *_axes(x_scale, y_scale, _axis_name(curves.values())),
    ]
    for n, curve in enumerate(curves.values()):
        colour = COLOURS[n % len(COLOURS)]
        parts += _line(curve, x_scale, y_scale, colour)
    parts += _legend(list(curves))
    return "\n".join([*parts, "</svg>", ""])


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


class _Scale:
    """A linear scale from values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = min(values), max(values)
        if self.low == self.high:
            room = abs(self.low) / 10 or 1.0
            self.low, self.high = self.low - room, self.high + room
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 2)


def _finite(curve: Curve) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(x + y)]


def _axes(x_scale: _Scale, y_scale: _Scale, x_name: str) -> list[str]:
    parts = []
    for y in ticks(y_scale.low, y_scale.high):
        at = y_scale(y)
        parts.append(f'<path d="M{_LEFT} {at}H{_WIDTH - _RIGHT}" stroke="#e0e0e0"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{y:.6g}", 'text-anchor="end" fill="#404040"'))
    for x in ticks(x_scale.low, x_scale.high):
        style = 'text-anchor="middle" fill="#404040"'
        parts.append(_text(x_scale(x), _HEIGHT - _BOTTOM + 18, f"{x:.6g}", style))
    parts.append(
        f'<path d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" fill="none" '
        'stroke="#404040"/>'
    )
    parts.append(_text(_WIDTH / 2, _HEIGHT - 10, x_name, 'text-anchor="middle"'))
    return parts


def _axis_name(curves: Iterable[Curve]) -> str:
    names = {curve.axis for curve in curves}
    return names.pop() if len(names) == 1 else "reading"


def _line(curve: Curve, x_scale: _Scale, y_scale: _Scale, colour: str) -> list[str]:
    """Return the curve, with a gap at each value that is not a number; a single point is a dot."""
    pieces: list[list[str]] = [[]]
    stride = max(1, math.ceil(len(curve.xs) / _MAX_POINTS))
    last = len(curve.xs) - 1
    for n, (x, y) in enumerate(zip(curve.xs, curve.ys, strict=True)):
        if not math.isfinite(x + y):
            pieces.append([])
        elif n % stride == 0 or n == last:
            pieces[-1].append(f"{x_scale(x)},{y_scale(y)}")
    style = f'fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"'
    drawn = []
    for piece in pieces:
        if len(piece) == 1:
            across, down = piece[0].split(",")
            drawn.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{colour}"/>')
        elif piece:
            drawn.append(f'<polyline points="{" ".join(piece)}" {style}/>')
    return drawn


def _legend(labels: Sequence[str]) -> list[str]:
    """Return the legend above the curves, on a translucent background."""
    width = max(map(len, labels)) * _LETTER_WIDTH + 40
    x, y = _WIDTH - _RIGHT - width - 4, _TOP + 4
    height = len(labels) * _LEGEND_LINE + 4
    parts = [
        f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{height}" fill="white" opacity="0.8"/>'
    ]
    for n, label in enumerate(labels):
        middle = y + 11 + n * _LEGEND_LINE
        colour = COLOURS[n % len(COLOURS)]
        parts.append(f'<path d="M{x + 6:g} {middle}h20" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(x + 32, middle + 4, label, 'text-anchor="start"'))
    return parts


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(_plain(text))}</text>'


def _plain(text: str) -> str:
    """Return the text without characters that XML 1.0 section 2.2 forbids: names are untrusted."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
