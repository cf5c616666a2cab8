"""The display of a transfer: bars on a terminal, a line for each finished host, or JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from . import display

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.transfer import HostTransfer, TransferProgress

__all__ = ["size", "watching"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@contextlib.contextmanager
def watching(clients: Sequence[SSHClient], *, json: bool) -> Iterator[dict[str, Any]]:
    """Yield the callbacks for the transfer: ``on_ended``, and on a terminal ``on_progress``."""
    if json:
        yield {"on_ended": lambda host: display.json_line(host.to_dict())}
    elif not sys.stderr.isatty():
        yield {"on_ended": tell}
    else:
        with _bars([client.config.id for client in clients]) as (on_progress, on_ended):
            yield {"on_progress": on_progress, "on_ended": on_ended}


def tell(host: HostTransfer) -> None:
    """Show the result of one host: the copied files on stdout, or the error on stderr."""
    if host.error:
        display.say(display.shown(host.error))
        return
    print(f"{host.host}: {_summary(host)}", flush=True)


def size(count: float) -> str:
    """Format a number of bytes for people: ``1.5 GiB``."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit has no end")


def _summary(host: HostTransfer) -> str:
    if not host.files and not host.deleted:
        return "nothing to copy"
    seconds = max(host.elapsed_ms / 1000, 0.001)
    files = "1 file" if host.files == 1 else f"{host.files} files"
    parts = [f"{files}, {size(host.bytes)} in {seconds:.1f} s ({size(host.bytes / seconds)}/s)"]
    if host.deleted:
        parts.append(f"{len(host.deleted)} removed")
    if host.checked:
        parts.append("SHA-256 checked")
    if host.resumed:
        parts.append(f"the link was lost {host.resumed} times")
    return ", ".join(parts)


@contextlib.contextmanager
def _bars(
    names: list[str],
) -> Iterator[tuple[Callable[[TransferProgress], None], Callable[[HostTransfer], None]]]:
    """Show a bar for each active host and, with several hosts, one for the total."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    whole = bars.add_task("all", total=None) if len(names) > 1 else None
    lines = {name: bars.add_task(name, total=None, visible=False) for name in names}

    def add_up() -> None:
        if whole is None:
            return
        hosts = [task for task in bars.tasks if task.id != whole]
        totals = [task.total for task in hosts]
        known = sum(total for total in totals if total is not None)
        # A host that has not begun is assumed to get as much as the others on average.
        share = known / max(1, sum(total is not None for total in totals))
        bars.update(
            whole,
            completed=sum(task.completed for task in hosts),
            total=known + share * sum(total is None for total in totals) or None,
        )

    def on_progress(progress: TransferProgress) -> None:
        bars.update(
            lines[progress.host],
            completed=progress.done_bytes,
            total=progress.total_bytes,
            visible=True,
        )
        add_up()

    def on_ended(host: HostTransfer) -> None:
        done = host.bytes
        bars.update(lines[host.host], completed=done, total=done, visible=False)
        add_up()
        tell(host)

    with bars:
        yield on_progress, on_ended
