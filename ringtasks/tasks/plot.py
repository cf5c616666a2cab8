"""``inv plot``: the curves of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.errors import UsageError
from ringtasks.output import display

from .options import HOST_HELP, INVENTORY_HELP, selected, task

if TYPE_CHECKING:
    from ringtasks.training.curves import Curve, Curves

__all__ = ["plot"]

_WIDTH, _HEIGHT = 80, 12


@task(
    positional=["job"],
    help={
        "job": "a run, a job or a log file; 'last' is the newest run; several joined by commas",
        "metric": "names or globs, joined by commas (default: the loss)",
        "json": "print one JSON object a point instead, with its place in the run",
        "out": "a file to draw into: NAME.svg, NAME.html, or NAME.png (needs matplotlib)",
        "host": HOST_HELP + "; where to look for jobs (default: @all)",
        "inventory": INVENTORY_HELP,
    },
)
def plot(
    c: Context,
    job: str | None = None,
    metric: str | None = None,
    json: bool = False,
    out: str | None = None,
    host: str = "@all",
    inventory: str | None = None,
) -> dict[str, Curve]:
    """Draw the metrics of runs, here or into a file, or print their points."""
    from ringtasks.output.plots.selection import select_curves

    if json and out is not None:
        raise UsageError("--json prints points and --out draws them: give one of the two")
    sources: dict[str, Curves] = {}
    for each in (job or "").split(","):
        label, curves = _curves(c, each.strip(), host, inventory, whole=json)
        sources[label] = curves
    chosen = select_curves(sources, metric or "*" if json else metric)
    if json:
        _print_points(sources, metric)
        return chosen
    if out is None:
        _show(chosen)
        return chosen
    from ringtasks.output.plots.figure import write

    write(chosen, ", ".join(sources), out)
    display.say(f"{out} written")
    return chosen


def _curves(
    c: Context, wanted: str, host: str, inventory: str | None, *, whole: bool
) -> tuple[str, Curves]:
    """Return a run's label and its curves; ``whole``: with every point."""
    from ringtasks.training.curves import Curves
    from ringtasks.training.records import LAST, find_run

    curves = Curves(max_points=None) if whole else Curves()
    if Path(wanted).is_file():
        curves.read_file(Path(wanted))
        return Path(wanted).name, curves
    root = (c.config.get("train") or {}).get("runs", "runs")
    run = find_run(root, wanted)
    if run is None and wanted == LAST:
        raise UsageError(f"no run in {root}/ yet: 'inv train' makes one")
    if run is None or not run.is_ended:  # nobody here follows it, perhaps: its host knows more
        job = wanted if run is None else run.last_job
        if job is not None:
            _read_job(c, job, curves, host, inventory)
            return (wanted if run is None else run.id), curves
    assert run is not None  # noqa: S101  # for the type checker
    for n, logs in enumerate(run.logs()):
        if n:
            curves.new_attempt()
        for log in logs:
            curves.read_file(log)
    return run.id, curves


def _read_job(c: Context, job: str, curves: Curves, host: str, inventory: str | None) -> None:
    """Read the log on the job's host.

    :raises UsageError: there is no such job, or no log of it.
    """
    from ringtasks import jobs
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.config import SSHConfig

    hosts = selected(c, host, inventory)
    clients = [SSHClient(SSHConfig.from_host_config(found)) for found in hosts]
    why = jobs.find(job, clients).follow(curves.feed, follow=False)
    if why is not None:
        raise UsageError(f"{job}: {why}")
    curves.end()


def _print_points(sources: dict[str, Curves], metric: str | None) -> None:
    """Print the points of all metrics, or of the chosen ones."""
    from json import dumps

    from ringtasks.output.plots.selection import select_metrics

    for run, name in select_metrics(sources, metric or "*"):
        label = {"run": run} if len(sources) > 1 else {}
        for point in sources[run].objects(name):
            print(dumps({**label, **point}))


def _show(chosen: dict[str, Curve]) -> None:
    from ringtasks.output.plots import terminal

    for label, curve in chosen.items():
        lines = terminal.draw(curve, _WIDTH, _HEIGHT)
        print(f"{display.visible(label)}: last {terminal.short(curve.ys[-1])}, over {curve.axis}")
        print("\n".join(lines) if lines else "  no finite value to draw")
