"""Curves of runs as a file: SVG, PNG or HTML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ringtasks.common.atomic_file import replace_file
from ringtasks.errors import UsageError
from ringtasks.training.curves import Curve

from .chart import Chart, Style

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
        from .picture import picture

        content = picture(chart, kind[1:])
    # In a shared folder, it follows no link of another user.
    replace_file(path, content, mode=0o644)
