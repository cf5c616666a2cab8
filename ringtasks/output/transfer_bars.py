"""The display of a transfer: bars on a terminal, a line for each finished host, or JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ringtasks.common.text import counted, size

from . import display

if TYPE_CHECKING:
    from rich.progress import Progress

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
        bars = _TransferBars([client.config.id for client in clients])
        with bars.progress:
            yield {"on_progress": bars.on_progress, "on_ended": bars.on_ended}


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
    rate = f"{size(host.bytes / seconds)}/s"
    parts = [f"{counted(host.files, 'file')}, {size(host.bytes)} in {seconds:.1f} s ({rate})"]
    if host.deleted:
        parts.append(f"{len(host.deleted)} removed")
    if host.checked:
        parts.append("SHA-256 checked")
    if host.resumed:
        parts.append(f"the link was lost {counted(host.resumed, 'time')}")
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


class _TransferBars:
    """A bar for each active host and, with several hosts, one for the total."""

    def __init__(self, names: Sequence[str]) -> None:
        self.progress = _progress()
        add = self.progress.add_task
        self._whole = add("all", total=None) if len(names) > 1 else None
        self._lines = {name: add(name, total=None, visible=False) for name in names}

    def on_progress(self, progress: TransferProgress) -> None:
        self.progress.update(
            self._lines[progress.host],
            completed=progress.done_bytes,
            total=progress.total_bytes,
            visible=True,
        )
        self._add_up()

    def on_ended(self, host: HostTransfer) -> None:
        line = self._lines[host.host]
        self.progress.update(line, completed=host.bytes, total=host.bytes, visible=False)
        self._add_up()
        tell(host)

    def _add_up(self) -> None:
        if self._whole is None:
            return
        hosts = [task for task in self.progress.tasks if task.id != self._whole]
        totals = [task.total for task in hosts]
        known = sum(total for total in totals if total is not None)
        # A host that has not begun is assumed to get as much as the others on average.
        share = known / max(1, sum(total is not None for total in totals))
        self.progress.update(
            self._whole,
            completed=sum(task.completed for task in hosts),
            total=known + share * sum(total is None for total in totals) or None,
        )


def _progress() -> Progress:
    """Return rich's display on stderr, with all sizes in the units of ringtasks."""
    from rich import progress as rich
    from rich.console import Console
    from rich.text import Text

    class _Rate(rich.ProgressColumn):
        """The rate; rich's own column has powers of 1000."""

        def render(self, task: rich.Task) -> Text:
            return Text(f"{size(task.speed or 0)}/s")

    return rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.DownloadColumn(binary_units=True),
        _Rate(),
        rich.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
