"""``inv plot``: draw the curves of runs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.program_name import as_typed
from ringtasks.errors import UsageError
from ringtasks.output import display
from ringtasks.output.foreign_text import stdout_is_unicode

from .core_flags import is_dry
from .options import HOST_HELP, clients_of, task

if TYPE_CHECKING:
    from ringtasks.output.plots.chart import Style
    from ringtasks.training.curves import Curve, Curves

__all__ = ["plot"]

#: The size of a picture in characters.  In a narrower terminal it is narrower, down to the least
#: width: the labels alone may take 24.
_WIDTH, _HEIGHT = 80, 12
_LEAST_WIDTH = 40

#: The states of a job that has ended by itself, and so has written all of its output.
_WHOLE = ("succeeded", "failed")


@task(
    positional=["job"],
    help={
        "job": "a run, a job or a log file; 'last' is the newest run; several joined by commas",
        "metric": "names or globs, joined by commas (default: the loss)",
        "json": "print one JSON object per point instead",
        "out": "a file to draw into: NAME.html, NAME.svg or NAME.png",
        "log": "a logarithmic y axis",
        "smooth": "smooth the curves: weight of earlier values, from 0 to below 1, such as 0.9",
        "axis": "x axis: step, epoch, round, time … (default: the one that fits the log best)",
        "theme": "light or dark (default: light; a page follows the browser)",
        "host": HOST_HELP + "; where to look for jobs (default: @all)",
    },
)
def plot(
    c: Context,
    job: str | None = None,
    metric: str | None = None,
    json: bool = False,
    out: str | None = None,
    log: bool = False,
    smooth: str | float = "0",
    axis: str | None = None,
    theme: str | None = None,
    host: str = "@all",
    inventory: str | None = None,
) -> dict[str, Curve]:
    """Draw the metrics of runs, to the terminal or to a file, or print their points."""
    from ringtasks.output.plots.selection import select_curves

    if json and out is not None:
        raise UsageError("--json prints points and --out draws them: give one of the two")
    style = _style(log, smooth, theme)
    names = [name for each in (job or "").split(",") if (name := each.strip())]
    if not names:
        raise UsageError(f"expected a run, a job or a log file, got {job!r}")
    wanted = _sources(c, names)
    if is_dry(c):
        for source in wanted:
            _plan(c, source, host, inventory)
        return {}
    read = _Reading(json, axis == "time", metric)
    sources = {source.label: _curves(c, source, host, inventory, read) for source in wanted}
    chosen = select_curves(sources, metric or "*" if json else metric, axis)
    if json:
        _print_points(sources, metric, axis)
        return chosen
    title = ", ".join(sources)
    # The legend gives the run and the metric; of several runs, each label begins with its run.
    prefix = f"{title} " if len(sources) == 1 else ""
    curves = {f"{prefix}{label}": curve for label, curve in chosen.items()}
    if out is None:
        _show(curves, title, style)
        return chosen
    from ringtasks.output.plots.figure import write

    write(curves, title, out, style)
    display.say(f"{out} written")
    return chosen


def _style(log: bool, smooth: str | float, theme: str | None) -> Style:
    from ringtasks.output.plots.chart import Style

    try:
        weight = float(smooth)
    except ValueError:
        weight = -1
    if not 0 <= weight < 1:
        raise UsageError(f"--smooth {smooth}: expected a weight from 0 to below 1, such as 0.9")
    if theme not in (None, "light", "dark"):
        raise UsageError(f"--theme {theme}: expected light or dark")
    return Style(log, weight, theme)


class _PlotSource(NamedTuple):
    """The source of curves: a job's log on its host; if it or the job is missing, local logs.

    ``is_cut``: the last local log may end within a line.
    """

    label: str
    job: str | None = None
    logs: Sequence[Sequence[Path]] = ()
    is_cut: bool = False
    inventory: str | None = None


def _sources(c: Context, wanted: Sequence[str]) -> list[_PlotSource]:
    """Return the sources, each once; files of the same name are labelled with their paths."""
    found = {name: _source(c, name) for name in wanted}
    labels = [source.label for source in found.values()]
    return [
        source._replace(label=name) if labels.count(source.label) > 1 else source
        for name, source in found.items()
    ]


def _source(c: Context, wanted: str) -> _PlotSource:
    from ringtasks.training.records import LAST, find_run

    if Path(wanted).is_file():
        return _PlotSource(Path(wanted).name, logs=[[Path(wanted)]])
    root = (c.config.get("train") or {}).get("runs", "runs")
    run = find_run(root, wanted)
    if run is None:
        if wanted == LAST:
            raise UsageError(f"no run in {root}/ yet: '{as_typed('train')}' makes one")
        if os.sep in wanted or wanted.endswith(".log"):
            other = "is no regular file" if Path(wanted).exists() else "no such file"
            what = "is a folder, not a log" if Path(wanted).is_dir() else other
            raise UsageError(f"{wanted}: {what}")
        return _PlotSource(wanted, wanted)
    # Perhaps no local process follows a run that has not ended: the host's log is longer.
    job = None if run.is_ended else run.last_job
    logs = [[path] for path in run.metric_files()] if job is None else []
    return _PlotSource(run.id, job, logs or run.logs(), run.state not in _WHOLE, run.inventory)


class _Reading(NamedTuple):
    """``is_whole``: every point is kept; ``has_times``: the times of ``metric`` are wanted."""

    is_whole: bool
    has_times: bool
    metric: str | None

    def curves(self, *, has_stamps: bool = False) -> Curves:
        from ringtasks.training.curves import Curves

        kept = {"max_points": None} if self.is_whole else {}
        return Curves(**kept, has_stamps=has_stamps)

    def is_over_time(self, source: _PlotSource, curves: Curves) -> bool:
        """Return whether each value to draw has a time."""
        from ringtasks.output.plots.selection import select_metrics

        chosen = select_metrics(
            {source.label: curves}, self.metric or ("*" if self.is_whole else None)
        )
        return all(curves.curve(name, "time").axis == "time" for _, name in chosen)


def _curves(
    c: Context, source: _PlotSource, host: str, inventory: str | None, read: _Reading
) -> Curves:
    """Return the curves of the logs.

    Times are those of the lines' stamps; if some are missing, those at which the lines came here.

    :raises UsageError: there is no such job, or no log of it, on a host or on this machine.
    """
    curves = read.curves(has_stamps=read.has_times)
    if source.job is None or not _is_read(c, source, curves, host, inventory):
        curves = read.curves(has_stamps=read.has_times)
        curves.read_attempts(source.logs, is_cut=source.is_cut)
    if read.has_times and not read.is_over_time(source, curves):
        seen = read.curves()
        seen.read_attempts(source.logs, is_cut=source.is_cut, with_arrivals=True)
        if seen.names and read.is_over_time(source, seen):
            return seen
    return curves


def _is_read(
    c: Context, source: _PlotSource, curves: Curves, host: str, inventory: str | None
) -> bool:
    """Read the job's log on its host; False if only the local copy can be read.

    :raises UsageError: there is no such job, or no log of it, and no local copy.
    """
    from ringtasks import jobs

    assert source.job is not None  # noqa: S101  # for the type checker
    try:
        clients = clients_of(c, host, inventory or source.inventory, only_looks=True)
        found = jobs.find(source.job, clients)
        if (why := found.follow(curves.feed, follow=False, patience=0)) is not None:
            raise UsageError(f"{source.job}: {why}")
        curves.end(is_cut=str(found.status().state) not in _WHOLE)
    except UsageError as error:
        if not any(log.stat().st_size for logs in source.logs for log in logs):
            raise
        display.say(f"{error}; plotting the local copy of its log")
        return False
    return True


def _plan(c: Context, source: _PlotSource, host: str, inventory: str | None) -> None:
    """Show the source of the curves."""
    from . import jobs_plan

    if source.job is None:
        display.say(f"would draw {source.label} from logs on this machine")
    else:
        clients = clients_of(c, host, inventory, only_looks=True)
        jobs_plan.follow(clients, source.job, follow=False)


def _print_points(sources: dict[str, Curves], metric: str | None, axis: str | None) -> None:
    """Print the points of all metrics, or of the chosen ones."""
    from ringtasks.output.plots.selection import select_metrics

    for run, name in select_metrics(sources, metric or "*"):
        label = {"run": run} if len(sources) > 1 else {}
        for point in sources[run].objects(name, axis):
            display.json_line({**label, **point}, allow_nan=True)


def _show(curves: dict[str, Curve], title: str, style: Style) -> None:
    from ringtasks.output.plots import terminal
    from ringtasks.output.plots.chart import Chart

    is_terminal = sys.stdout.isatty()
    has_colours = is_terminal and "NO_COLOR" not in os.environ
    columns = shutil.get_terminal_size((_WIDTH, 24)).columns if is_terminal else _WIDTH
    width = max(_LEAST_WIDTH, min(columns, _WIDTH))
    for panel in Chart.of(curves, title, style).panels:
        for n, line in enumerate(panel.lines):
            print(terminal.legend(line, n, has_colours=has_colours))
        lines = terminal.draw_panel(
            panel, width, _HEIGHT, is_log=style.is_log, has_colours=has_colours
        )
        if not stdout_is_unicode():
            lines = terminal.in_ascii(lines)
        print("\n".join(lines) if lines else "  no finite value to draw")
