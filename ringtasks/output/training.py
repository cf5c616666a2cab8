"""The display of a training run: its log and, on a terminal, its progress and a small plot.

Remote text is not trusted: only the log of a single host passes through unchanged, and only if the
terminal view is not used.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from ringtasks.common.lines import Lines
from ringtasks.training.curves import Curves

from .display import say, shown
from .foreign_text import stdout_is_unicode
from .lines import LabelledLog, RawLog
from .plots import terminal
from .plots.chart import PlotLine

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["LiveView", "PlainView", "View", "for_terminal"]

_PLOT_LINES = 6
_REFRESH_INTERVAL = 0.25  # seconds


class View(Protocol):
    """Display of a run, used with ``with``; ``host`` is None if there is only one."""

    def __enter__(self) -> View: ...

    def __exit__(self, *exc: object) -> None: ...

    def log(self, chunk: bytes, host: str | None) -> None:
        """Show output of the run."""

    def say(self, text: str) -> None:
        """Show a message of ringtasks."""


class PlainView:
    """View of the log on stdout, as it arrives; messages of ringtasks go to stderr."""

    def __init__(self) -> None:
        self._logs: dict[str | None, RawLog | LabelledLog] = {}

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *exc: object) -> None:
        for log in self._logs.values():
            log.finish()

    def log(self, chunk: bytes, host: str | None) -> None:
        log = RawLog() if host is None else LabelledLog(host)
        self._logs.setdefault(host, log).add(chunk)

    def say(self, text: str) -> None:
        say(text)


class LiveView:
    """View that redraws the progress and a plot of the first metric in place, below the log."""

    def __init__(self, curves: Curves, title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._curves, self._title = curves, title
        self._lines: dict[str | None, Lines] = {}
        self._drawn_at = 0.0
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            auto_refresh=False,  # it would read the curves from another thread
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        for host, lines in self._lines.items():
            self._print(host, lines.end())
        self._live.stop()

    def log(self, chunk: bytes, host: str | None) -> None:
        self._print(host, self._lines.setdefault(host, Lines()).add(chunk))
        now = time.monotonic()
        if now - self._drawn_at >= _REFRESH_INTERVAL:
            self._drawn_at = now
            self._live.refresh()

    def say(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(f"ringtasks: {shown(text)}", style="dim"))

    def _print(self, host: str | None, lines: Iterable[bytes]) -> None:
        from rich.text import Text

        label = Text(f"{host}: ", style="cyan") if host is not None else Text()
        for line in lines:
            text = Text(shown(line.decode("utf-8", "replace")))
            self._console.print(label + text, soft_wrap=True)

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
            Text(f"{shown(name)} {terminal.short(self._curves.latest(name))}") for name in names[:3]
        ]
        row.add_row(*cells)
        main = self._curves.main
        if main is None:
            return row
        curve = self._curves.curve(main)
        if len(curve.ys) < 2:
            return row
        width = min(self._console.width, 100)
        line = PlotLine(main, "", curve.xs, curve.ys, curve.ys)
        lines = terminal.draw([line], width, _PLOT_LINES)
        return Group(row, *(Text(line, no_wrap=True) for line in lines))


def for_terminal(curves: Curves, title: str) -> View:
    """Return a `LiveView` on a UTF-8 terminal, else a `PlainView`."""
    if sys.stdout.isatty() and sys.stderr.isatty() and stdout_is_unicode():
        return LiveView(curves, title)
    return PlainView()
