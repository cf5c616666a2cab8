"""A chart as SVG or PNG, drawn by matplotlib."""

from __future__ import annotations

import io
from typing import Any

from ringtasks.errors import UsageError

from .chart import Chart, Panel

__all__ = ["picture"]

_MAX_COLUMNS = 3
_PANEL_INCHES = (8.0, 4.5)  # of a single one
_SMALL_INCHES = (5.0, 3.4)


def picture(chart: Chart, kind: str) -> bytes:
    """Return the content of a file with the chart.

    :param kind: ``svg`` or ``png``.

    :raises UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            f"--out: {kind.upper()} needs matplotlib: pip install 'ringtasks[plot]'"
        ) from error
    columns = min(len(chart.panels), _MAX_COLUMNS)
    rows = -(-len(chart.panels) // columns)
    width, height = _PANEL_INCHES if len(chart.panels) == 1 else _SMALL_INCHES
    theme = "dark_background" if chart.style.theme == "dark" else "default"
    # Text of an SVG stays text, so that it can be searched.
    with matplotlib.style.context([theme, {"svg.fonttype": "none"}]):
        figure: Any = Figure(figsize=(width * columns, height * rows), layout="constrained")
        all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, panel in zip(all_axes, chart.panels, strict=False):
            _draw(axes, panel, is_log=chart.style.is_log)
        for axes in all_axes[len(chart.panels) :]:
            axes.set_axis_off()
        figure.suptitle(_plain(chart.title))
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=150)
    return content.getvalue()


def _draw(axes: Any, panel: Panel, *, is_log: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    for line in panel.lines:
        label = _plain(line.label)
        if label.startswith("_"):
            label = f"\u200b{label}"  # or matplotlib hides it
        marker = "." if line.has_lone_points else None
        if line.raw is not None:
            axes.plot(line.xs, line.raw, color=line.colour, alpha=0.25, linewidth=1)
        axes.plot(line.xs, line.ys, label=label, color=line.colour, marker=marker)
    axes.set_xlabel(_plain(panel.x_label))
    axes.set_ylabel(_plain(panel.metric))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if is_log and any(line.points for line in panel.lines):
        axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def _plain(text: str) -> str:
    """Return untrusted text without characters that XML forbids, and without formulas."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown.replace("$", r"\$")
