"""A chart as an HTML page that needs no other file: hover, zoom, and lines that can be hidden.

Plotly draws it: its Python package contains the script, so the page can hold it and works offline.
The figure is plain JSON; the package's own objects are not loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html import escape
from typing import Any

from ringtasks.errors import UsageError

from .chart import Chart, Panel, PlotLine

__all__ = ["page"]

_PANEL_PIXELS = 340
_MAX_COLUMNS = 2
_GAP = 0.08  # of the width, between panels
_GAP_PIXELS = 90  # of the height: the name of an axis stands there

# No part of the page may be fetched: names in it come from hosts.
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: {schemes}; }}
body {{ font-family: sans-serif; margin: 1rem; background: Canvas; color: CanvasText; }}
td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; }}
</style>
<script>{plotly}</script></head><body>
<div id="chart"></div>
<table><tr><th>curve</th><th>first</th><th>lowest</th><th>highest</th><th>last</th></tr>
{rows}</table>
<script>
const figure = {figure};
const theme = {theme};
const dark = matchMedia("(prefers-color-scheme: dark)");
function colours() {{
  const isDark = theme ? theme === "dark" : dark.matches;
  const grid = isDark ? "#444444" : "#dddddd";
  const found = {{paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
                 "font.color": isDark ? "#eeeeee" : "#222222"}};
  for (const name of Object.keys(figure.layout).filter((each) => /^[xy]axis/.test(each))) {{
    found[name + ".gridcolor"] = found[name + ".zerolinecolor"] = grid;
  }}
  return found;
}}
Plotly.newPlot("chart", figure.data, figure.layout, {{responsive: true, displaylogo: false}})
  .then(() => Plotly.relayout("chart", colours()));
dark.addEventListener("change", () => Plotly.relayout("chart", colours()));
</script>
</body></html>
"""


def page(chart: Chart) -> str:
    """Return the page.

    :raises UsageError: Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError("an HTML page needs Plotly: pip install 'ringtasks[plot]'") from error
    figure = {"data": list(_traces(chart)), "layout": _layout(chart)}
    return _PAGE.format(
        title=escape(chart.title),
        schemes=chart.style.theme or "light dark",
        plotly=get_plotlyjs(),
        figure=_json(figure),
        theme=_json(chart.style.theme),
        rows="".join(_row(line) for panel in chart.panels for line in panel.lines),
    )


def _traces(chart: Chart) -> Iterator[dict[str, Any]]:
    for n, panel in enumerate(chart.panels, 1):
        for line in panel.lines:
            trace = {
                "type": "scatter", "mode": "lines+markers" if line.has_lone_points else "lines",
                "x": _finite(line.xs), "y": _finite(line.ys), "name": escape(line.label),
                "xaxis": f"x{n}", "yaxis": f"y{n}", "line": {"color": line.colour},
                "legendgroup": f"{n} {escape(line.label)}",
                "hovertemplate": f"{escape(panel.x_label)} %{{x}}: %{{y:.6g}}",
            }  # fmt: skip
            if line.raw is not None:
                yield trace | {"y": _finite(line.raw), "opacity": 0.25, "showlegend": False}
            yield trace


def _layout(chart: Chart) -> dict[str, Any]:
    columns = min(len(chart.panels), _MAX_COLUMNS)
    rows = -(-len(chart.panels) // columns)
    layout: dict[str, Any] = {
        "title": {"text": escape(chart.title)}, "showlegend": True, "hovermode": "x unified",
        "height": max(480, rows * _PANEL_PIXELS), "margin": {"t": 60},
    }  # fmt: skip
    for n, panel in enumerate(chart.panels):
        across = _share(n % columns, columns, _GAP)
        down = _share(rows - 1 - n // columns, rows, _GAP_PIXELS / layout["height"])
        layout |= _axes(panel, n + 1, across, down, is_log=chart.style.is_log)
    return layout


def _axes(
    panel: Panel, n: int, across: list[float], down: list[float], *, is_log: bool
) -> dict[str, Any]:
    xs = [x for line in panel.lines for x, _ in line.points]
    x_axis: dict[str, Any] = {
        "title": {"text": escape(panel.x_label)},
        "domain": across,
        "anchor": f"y{n}",
    }
    if xs and max(xs) - min(xs) < 8:
        x_axis["dtick"] = 1  # counts are whole numbers
    y_axis = {
        "title": {"text": escape(panel.metric)}, "domain": down, "anchor": f"x{n}",
        "type": "log" if is_log else "linear", "exponentformat": "power",
    }  # fmt: skip
    return {f"xaxis{n}": x_axis, f"yaxis{n}": y_axis}


def _share(n: int, count: int, gap: float) -> list[float]:
    """Return the part of the page that the n-th panel takes."""
    width = (1 - gap * (count - 1)) / count
    return [n * (width + gap), min(n * (width + gap) + width, 1.0)]


def _row(line: PlotLine) -> str:
    ys = line.values
    finite = [y for y in ys if math.isfinite(y)] or [math.nan]
    figures = (ys[0], min(finite), max(finite), ys[-1])
    cells = "".join(f"<td>{figure:.6g}</td>" for figure in figures)
    return f"<tr><td>{escape(line.label)}</td>{cells}</tr>\n"


def _finite(values: Any) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
