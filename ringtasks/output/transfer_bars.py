"""The display of a transfer: bars on a terminal, a line for each finished host, or JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ringtasks.common.text import counted, size

from . import display

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.transfer import HostTransfer, TransferProgress

__all__ = ["watching"]


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
        display.say(host.error)
        return
    print(display.shown_lines(f"{host.host}: {_summary(host)}"), flush=True)


def _summary(host: HostTransfer) -> str:
    if host.is_dry_run:
        return _outlook(host)
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


def _outlook(host: HostTransfer) -> str:
    """Return the summary of a dry run."""
    if not (host.files or host.deleted or host.made):
        return "dry run: nothing would be changed"
    counts = [
        f"copy {counted(host.files, 'file')}, {size(host.bytes)}" if host.files else "",
        f"remove {len(host.deleted)}" if host.deleted else "",
        f"make or change {len(host.made)} without content" if host.made else "",
    ]
    return f"dry run: would {'; '.join(filter(None, counts))}"


@contextlib.contextmanager
def _bars(
    names: list[str],
) -> Iterator[tuple[Callable[[TransferProgress], None], Callable[[HostTransfer], None]]]:
    """Show a bar for each active host and, with several hosts, one for the total."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )
    from rich.text import Text

    class _Rate(ProgressColumn):
        """The rate in the units of all other sizes; rich's own column has powers of 1000."""

        def render(self, task: Task) -> Text:
            return Text(f"{size(task.speed or 0)}/s")

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        _Rate(),
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
