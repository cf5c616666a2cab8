"""The content of a picture of curves: one panel for each metric, and its lines.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import UsageError
from ringtasks.training.curves import Curve

__all__ = ["COLOURS", "Chart", "Panel", "PlotLine", "Style", "ticks"]

#: Seven of the eight colours of Okabe and Ito, which people with any colour vision can distinguish:
#: black is not seen on a dark ground.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b5a800")

#: A larger value counts as infinite: the distance of two such values is no finite number.
_LARGEST = 1e300


class Style(NamedTuple):
    """Options of a picture.

    ``smooth``: the weight of the mean so far, from 0 (none) to below 1; ``theme``: ``light``,
    ``dark``, or None for the page's own choice.
    """

    is_log: bool = False
    smooth: float = 0.0
    theme: str | None = None


class PlotLine(NamedTuple):
    """A curve under its name in the legend; ``raw``: its values before they were smoothed.

    ``values``: those of the curve, also those that cannot be drawn.
    """

    label: str
    colour: str
    xs: Sequence[float]
    ys: Sequence[float]
    values: Sequence[float]
    raw: Sequence[float] | None = None

    @property
    def points(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(x, y) for x, y in zip(self.xs, self.ys, strict=True) if math.isfinite(x + y)]

    @property
    def has_lone_points(self) -> bool:
        """True if a point has no neighbour that a line could lead to."""
        is_drawn = [False, *map(math.isfinite, self.ys), False]
        return any(
            there and not (is_drawn[n] or is_drawn[n + 2]) for n, there in enumerate(is_drawn[1:-1])
        )


class Panel(NamedTuple):
    """The lines of one metric over one axis."""

    metric: str
    axis: str
    lines: Sequence[PlotLine]

    @property
    def x_label(self) -> str:
        """The name of the x axis, with its unit."""
        return "time (s)" if self.axis == "time" else self.axis


@dataclass(frozen=True)
class Chart:
    """A picture of several curves."""

    title: str
    panels: Sequence[Panel]
    style: Style = field(default_factory=Style)

    @classmethod
    def of(cls, curves: Mapping[str, Curve], title: str, style: Style) -> Chart:
        """Return the chart of curves, each under its label.

        :raises UsageError: no curve has a value that can be drawn.
        """
        panels: dict[tuple[str, str], list[PlotLine]] = {}
        for label, curve in curves.items():
            lines = panels.setdefault((curve.name, curve.axis), [])
            lines.append(_line(label, curve, COLOURS[len(lines) % len(COLOURS)], style))
        chart = cls(title, [Panel(*key, lines) for key, lines in panels.items()], style)
        if not any(line.points for panel in chart.panels for line in panel.lines):
            above = " above 0, which --log needs" if style.is_log else ""
            raise UsageError(f"there is nothing to draw: no metric has a finite value{above}")
        return chart


def _line(label: str, curve: Curve, colour: str, style: Style) -> PlotLine:
    xs, ys = _within_range(curve.xs), _within_range(curve.ys)
    if style.is_log:
        ys = tuple(y if y > 0 else math.nan for y in ys)
    if not style.smooth:
        return PlotLine(label, colour, xs, ys, curve.ys)
    return PlotLine(label, colour, xs, _smoothed(ys, style.smooth), curve.ys, ys)


def _within_range(values: Sequence[float]) -> Sequence[float]:
    return tuple(math.copysign(math.inf, n) if abs(n) > _LARGEST else n for n in values)


def _smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Return the exponential means; without the pull of the first value, as TensorBoard does."""
    mean, count = 0.0, 0
    means = []
    for value in values:
        if math.isfinite(value):
            mean, count = weight * mean + (1 - weight) * value, count + 1
            means.append(float(f"{mean / (1 - weight**count):.12g}"))  # 0.1 stays 0.1
        else:
            means.append(value)
    return means


def ticks(low: float, high: float, count: int = 6, *, is_whole: bool = False) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    step = max(step, 1.0) if is_whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]
