"""Curves of runs as a file: SVG and HTML by own code, PNG by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from ringtasks.errors import UsageError
from ringtasks.training.curves import Curve

from . import svg

__all__ = ["FORMATS", "write"]

FORMATS = (".svg", ".png", ".html")


def write(curves: Mapping[str, Curve], title: str, path: str | Path) -> None:
    """Draw the curves, each under its label, into a file; the suffix of its name sets the format.

    :raises UsageError: the format is unknown, there is no point to draw, the folder is missing, or
        matplotlib is not installed for a PNG.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise UsageError(f"--out {path}: expected a name that ends with {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")
    try:
        picture = svg.draw(curves, title)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if kind == ".png":
        _write_png(curves, title, path)
    else:
        path.write_text(picture if kind == ".svg" else _page(curves, title, picture), "utf-8")


def _page(curves: Mapping[str, Curve], title: str, picture: str) -> str:
    """Return a page that needs no other file: the picture, and each curve's figures."""
    rows = "".join(
        f"<tr><td>{escape(label)}</td>"
        + "".join(f"<td>{figure}</td>" for figure in _figures(curve))
        + "</tr>\n"
        for label, curve in curves.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<style>
body {{ font-family: sans-serif; max-width: 60rem; margin: 2rem auto; }}
td, th {{ padding: .2rem 1rem .2rem 0; text-align: left; }}
</style></head><body>
{picture}
<table><tr><th>curve</th><th>first</th><th>lowest</th><th>highest</th><th>last</th></tr>
{rows}</table>
</body></html>
"""


def _figures(curve: Curve) -> list[str]:
    finite = [y for y in curve.ys if math.isfinite(y)] or [math.nan]
    return [f"{y:.6g}" for y in (curve.ys[0], min(finite), max(finite), curve.ys[-1])]


def _write_png(curves: Mapping[str, Curve], title: str, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            f"--out {path}: PNG needs matplotlib: pip install 'ringtasks[plot]'; "
            "SVG and HTML need nothing"
        ) from error
    figure: Any = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for n, (label, curve) in enumerate(curves.items()):
        # matplotlib hides a label with a leading underscore, and starts a formula at a dollar sign.
        shown = "\u200b" + label.replace("$", r"\$")
        axes.plot(curve.xs, curve.ys, label=shown, color=svg.COLOURS[n % len(svg.COLOURS)])
    axes.set_title(title.replace("$", r"\$"))
    axes.grid(visible=True, color="#e0e0e0")
    axes.legend()
    figure.savefig(path, dpi=150)
