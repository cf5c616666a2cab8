"""What this machine keeps of a run: a folder with its log, what was fetched, and ``run.json``.

The host keeps the job (`ringtasks.jobs`); the folder lets a run be drawn, or gone back to, when the
host is gone.  Schema of ``run.json``: ``{"version": 1, "id", "command", "state", "started_at",
"ended_at", "attempts": [{"attempt", "jobs": [{"host_id", "job_id"}], "state"}]}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from ringtasks.errors import StateFileError, UsageError

__all__ = ["LAST", "Attempt", "JobPlace", "RunRecord", "find_run", "new_run"]

#: Means the newest run.
LAST = "last"

_VERSION = 1
_FILE = "run.json"


@dataclass(frozen=True)
class JobPlace:
    """A job and its host."""

    host_id: str
    job_id: str


@dataclass
class Attempt:
    """One start of the run: a job on each of its hosts, the first of which tells of the metrics."""

    attempt: int
    jobs: list[JobPlace] = field(default_factory=list)
    state: str = "running"


@dataclass
class RunRecord:
    """A run, as its folder holds it; `save` after a change. Times are Unix seconds of this machine.

    ``state`` is that of its last attempt, as `ringtasks.jobs` names it.
    """

    id: str
    folder: Path
    command: str
    started_at: float
    state: str = "running"
    ended_at: float | None = None
    attempts: list[Attempt] = field(default_factory=list)

    def save(self) -> None:
        """Write ``run.json``: the old one or the new one is there at any moment.

        :raises StateFileError: it cannot be written.
        """
        fields = {"version": _VERSION, **asdict(self)}
        del fields["folder"]
        fresh = self.folder / f".{_FILE}.{os.getpid()}"
        try:
            fresh.write_text(json.dumps(fields, indent=1) + "\n")
            fresh.replace(self.folder / _FILE)
        except OSError as error:
            raise StateFileError(str(fresh), error.strerror or str(error)) from error

    def discard(self) -> None:
        """Remove the folder of a run that never began."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def logs_of(self, attempt: int, count: int) -> Iterator[list[BinaryIO]]:
        """The local copies of an attempt's logs, one a job, to write to."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(self._log(attempt, serial).open("wb"))
                for serial in range(1, count + 1)
            ]

    def logs(self) -> list[list[Path]]:
        """The local copies of the logs: of each attempt, those of its jobs."""
        return [
            [
                file
                for n in range(len(each.jobs))
                if (file := self._log(each.attempt, n + 1)).exists()
            ]
            for each in self.attempts
        ]

    @property
    def is_ended(self) -> bool:
        """Whether somebody here saw it end."""
        return self.ended_at is not None

    @property
    def last_job(self) -> str | None:
        """The id of the last attempt's first job; None: none was started."""
        return self.attempts[-1].jobs[0].job_id if self.attempts else None

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint folder is kept."""
        return self.folder / "checkpoint"

    def _log(self, attempt: int, serial: int) -> Path:
        return self.folder / f"attempt-{attempt}{f'-{serial}' if serial > 1 else ''}.log"


def new_run(root: str | Path, name: str, command: str) -> RunRecord:
    """A new run's folder below ``root``: ``NAME-YYYYMMDD-HHMMSS``.

    :raises UsageError: it cannot be made.
    """
    now = time.time()
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}"
    for serial in range(1, 1000):
        run_id = stem if serial == 1 else f"{stem}-{serial}"
        folder = Path(root) / run_id
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"train: runs: {folder}: {error.strerror}") from error
        record = RunRecord(run_id, folder, command, now)
        record.save()
        return record
    raise UsageError(f"train: runs: {root}: too many runs called {stem}")


def find_run(root: str | Path, wanted: str) -> RunRecord | None:
    """The run of that id, or one that begins like that, or has a job like that; or the `LAST`.

    None where there is none.

    :raises UsageError: several begin like that.
    """
    runs = sorted(_runs(Path(root)), key=lambda run: run.started_at)
    if wanted == LAST:
        return runs[-1] if runs else None
    for run in runs:
        if wanted in (run.id, run.folder.name):
            return run
    begun = [run for run in runs if run.id.startswith(wanted) or _has_job(run, wanted)]
    if len(begun) > 1:
        raise UsageError(f"{wanted}: means several runs: {', '.join(run.id for run in begun)}")
    return begun[0] if begun else None


def _has_job(run: RunRecord, wanted: str) -> bool:
    return any(job.job_id.startswith(wanted) for each in run.attempts for job in each.jobs)


def _runs(root: Path) -> Iterator[RunRecord]:
    for file in root.glob(f"*/{_FILE}"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            yield _read(file)  # somebody else's file of that name is no run


def _read(file: Path) -> RunRecord:
    fields = json.loads(file.read_text())
    if fields.pop("version") != _VERSION:
        raise ValueError("another version")
    attempts = [
        Attempt(each["attempt"], [JobPlace(**job) for job in each["jobs"]], each["state"])
        for each in fields.pop("attempts")
    ]
    return RunRecord(folder=file.parent, attempts=attempts, **fields)
