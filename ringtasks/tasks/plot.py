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
        "out": "a file to draw into: NAME.svg, NAME.html, or NAME.png (needs matplotlib)",
        "host": HOST_HELP + "; where to look for jobs (default: @all)",
        "inventory": INVENTORY_HELP,
    },
)
def plot(
    c: Context,
    job: str | None = None,
    metric: str | None = None,
    out: str | None = None,
    host: str = "@all",
    inventory: str | None = None,
) -> dict[str, Curve]:
    """Draw the metrics of runs, here or into a file."""
    from ringtasks.output.plots.selection import select_curves

    sources: dict[str, Curves] = {}
    for each in (job or "").split(","):
        label, curves = _curves(c, each.strip(), host, inventory)
        sources[label] = curves
    chosen = select_curves(sources, metric)
    if out is None:
        _show(chosen)
        return chosen
    from ringtasks.output.plots.figure import write

    write(chosen, ", ".join(sources), out)
    display.say(f"{out} written")
    return chosen


def _curves(c: Context, wanted: str, host: str, inventory: str | None) -> tuple[str, Curves]:
    """A run's curves and its label."""
    from ringtasks.training.curves import curves_of
    from ringtasks.training.records import LAST, find_run

    if Path(wanted).is_file():
        return Path(wanted).name, curves_of([[Path(wanted).read_bytes()]])
    root = (c.config.get("train") or {}).get("runs", "runs")
    run = find_run(root, wanted)
    if run is None and wanted == LAST:
        raise UsageError(f"no run in {root}/ yet: 'inv train' makes one")
    if run is None or not run.is_ended:  # nobody here follows it, perhaps: its host knows more
        job = wanted if run is None else run.last_job
        if job is not None:
            return (wanted if run is None else run.id), _curves_of_job(c, job, host, inventory)
    assert run is not None  # noqa: S101  # for the type checker
    return run.id, curves_of([[log.read_bytes() for log in logs] for logs in run.logs()])


def _curves_of_job(c: Context, job: str, host: str, inventory: str | None) -> Curves:
    """What the log on the host tells."""
    from ringtasks import jobs
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.config import SSHConfig
    from ringtasks.training.curves import Curves

    hosts = selected(c, host, inventory)
    clients = [SSHClient(SSHConfig.from_host_config(found)) for found in hosts]
    curves = Curves()
    why = jobs.find(job, clients).follow(curves.feed, follow=False)
    if why is not None:
        raise UsageError(f"{job}: {why}")
    curves.end()
    return curves


def _show(chosen: dict[str, Curve]) -> None:
    from ringtasks.output.plots import terminal

    for label, curve in chosen.items():
        lines = terminal.draw(curve, _WIDTH, _HEIGHT)
        print(f"{display.visible(label)}: last {terminal.short(curve.ys[-1])}, over {curve.axis}")
        print("\n".join(lines) if lines else "  no finite value to draw")
