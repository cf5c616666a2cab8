"""What people see while a run goes on: its log, and on a terminal its progress and a small plot.

Remote text is not trusted: only the log of a single host that goes to no terminal, or a file, is
passed on as it is.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from ..display import LabelledReporter, say, visible
from ..training import braille
from ..training.curves import Curves

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["LiveView", "PlainView", "View", "for_terminal"]

_PLOT_LINES = 6
_REFRESHES_PER_SECOND = 4


class View(Protocol):
    """Shows a run; usable with ``with``. ``host`` is None where there is only one."""

    def __enter__(self) -> View: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def log(self, chunk: bytes, host: str | None) -> None:
        """Show what the run has printed."""

    def say(self, text: str) -> None:
        """Show words of our own."""


class PlainView:
    """The log as it comes, on stdout; our own words on stderr."""

    def __init__(self) -> None:
        self._labelled: dict[str, LabelledReporter] = {}

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *exc: object) -> None:
        for reporter in self._labelled.values():
            reporter.on_output(1, b"")

    def log(self, chunk: bytes, host: str | None) -> None:
        if host is None:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        self._labelled.setdefault(host, LabelledReporter(host)).on_output(1, chunk)

    def say(self, text: str) -> None:
        say(text)


class LiveView:
    """Below the log, redrawn in place: how far the run is, and its first metric as a plot."""

    def __init__(self, curves: Curves, title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._curves, self._title = curves, title
        self._partial: dict[str | None, bytes] = {}
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REFRESHES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for host, partial in self._partial.items():
            if partial:
                self._print(partial, host)
        self._live.__exit__(kind, error, traceback)

    def log(self, chunk: bytes, host: str | None) -> None:
        *whole, self._partial[host] = (self._partial.get(host, b"") + chunk).split(b"\n")
        for line in whole:
            self._print(line, host)

    def say(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"ringtasks: {visible(text)}", style="dim"))

    def _print(self, line: bytes, host: str | None) -> None:
        from rich.text import Text

        # Of a bar that was drawn over and over, the last state.
        text = visible(line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"))
        label = Text(f"{host}: ", style="cyan") if host is not None else Text()
        self._console.print(label + Text(text), soft_wrap=True)

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        row = Table.grid(padding=(0, 1))
        progress, fraction = self._curves.progress, self._curves.fraction
        cells: list[RenderableType] = [Text(self._title, style="bold")]
        if fraction is not None:
            cells.append(ProgressBar(total=1.0, completed=fraction, width=30))
        if progress is not None:
            total = f"/{progress.total:g}" if progress.total else ""
            cells.append(Text(f"{progress.unit} {progress.done:g}{total}".strip()))
        names = self._curves.names
        cells += [
            Text(f"{visible(name)} {braille.short(self._curves.latest(name))}")
            for name in names[:3]
        ]
        row.add_row(*cells)
        if not names:
            return row
        curve = self._curves.curve(names[0])
        if len(curve.ys) < 2:
            return row
        width = min(self._console.width, 100)
        lines = braille.draw(curve, width, _PLOT_LINES)
        return Group(row, *(Text(line, no_wrap=True) for line in lines))


def for_terminal(curves: Curves, title: str) -> View:
    """The view that suits this machine's stdout."""
    encoding = (sys.stdout.encoding or "").lower()
    if sys.stdout.isatty() and sys.stderr.isatty() and encoding.startswith("utf"):
        return LiveView(curves, title)
    return PlainView()
