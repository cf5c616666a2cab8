"""Curves of runs as a file: SVG, PNG or HTML."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ringtasks.common.atomic_file import replace_file
from ringtasks.errors import UsageError
from ringtasks.training.curves import Curve

from .chart import Chart, Panel, Style

__all__ = ["FORMATS", "write"]

FORMATS = (".svg", ".png", ".html")


def write(
    curves: Mapping[str, Curve], title: str, path: str | Path, style: Style | None = None
) -> None:
    """Draw the curves, each under its label, into a file; the suffix of its name sets the format.

    A file or a symbolic link of that name is replaced.

    :raises UsageError: the format is unknown, there is no point to draw, the folder is missing, or
        the library that draws is not installed.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise UsageError(f"--out {path}: expected a name that ends with {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")
    chart = Chart.of(curves, title, style or Style())
    if kind == ".html":
        from .page import page

        content = page(chart).encode("utf-8", "replace")  # a file's name may be no UTF-8
    else:
        content = _picture(chart, kind[1:])
    # In a shared folder, it follows no link of another user.
    replace_file(path, content, mode=0o644)


_MAX_COLUMNS = 3
_PANEL_INCHES = (8.0, 4.5)  # of a single one
_SMALL_INCHES = (5.0, 3.4)


def _picture(chart: Chart, kind: str) -> bytes:
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
