"""Printers of jobs' logs: one raw, several with labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ringtasks.common.lines import Lines
from ringtasks.output import display
from ringtasks.output.job_table import clock

if TYPE_CHECKING:
    from ringtasks.jobs import JobStatus

__all__ = ["LabelledLog", "RawLog", "log_printer", "out_of_reach"]


class RawLog:
    """The log of one job, passed through unchanged."""

    def add(self, chunk: bytes) -> None:
        """Print output of the job."""
        display.write_bytes(1, chunk)

    def finish(self) -> None:
        """Do nothing: no text is held back."""


class LabelledLog:
    """The log of one job of several: whole lines with a label, progress bars folded."""

    def __init__(self, label: str) -> None:
        self._label, self._lines = label, Lines()

    def add(self, chunk: bytes) -> None:
        """Print the lines that are complete now."""
        self._print(self._lines.add(chunk))

    def finish(self) -> None:
        """Print the rest: a line without a line end."""
        self._print(self._lines.end())

    def _print(self, lines: Iterable[bytes]) -> None:
        text = "".join(
            display.shown(f"{self._label}: {line.decode('utf-8', 'replace')}") + "\n"
            for line in lines
        )
        display.write_bytes(1, text.encode())  # by one write: other jobs print, too


def log_printer(job: JobStatus, *, is_alone: bool) -> RawLog | LabelledLog:
    """Return the printer of a job's log; ``is_alone``: no other job is shown."""
    return RawLog() if is_alone else LabelledLog(f"{job.host_id}/{job.name or job.id[:8]}")


def out_of_reach(job: JobStatus, reason: str) -> str:
    """Return the message for a job whose host was not reached: the local record of it."""
    label = f"job {job.id}" + (f" ({job.name})" if job.name else "")
    at_last = (
        "" if job.since is None else f"; at its last answer, {clock(job.since)}, it had not ended"
    )
    return f"{label} on {job.host_id}{at_last}; its log is on the host ({job.log_file})\n{reason}"
