"""This machine's record of a run: a folder with its log, the fetched files, and ``run.json``.

The host keeps the job (`ringtasks.jobs`); with the folder, a run can be drawn or reattached to when
the host is gone.  Schema of ``run.json``: ``{"version": 1, "id", "command", "state", "started_at",
"ended_at", "exit_status", "settings", "inventory", "revision", "attempts": [{"attempt", "jobs":
[{"host_id", "job_id"}], "state"}]}``.  ``settings`` are those of ``train`` in full, except for the
values of ``env``, which may be secret: they are in ``env.json``, for this user only.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ringtasks.common.atomic_file import replace_file
from ringtasks.common.descriptors import write_all
from ringtasks.common.file_lock import try_lock
from ringtasks.common.fork import held
from ringtasks.common.program_name import as_typed
from ringtasks.common.regular_file import read_regular
from ringtasks.errors import StateFileError, UsageError

from .arrivals import ArrivalTimes
from .logs.metric_files import is_metric_file

__all__ = [
    "LAST",
    "JobPlace",
    "LogCopy",
    "RunAttempt",
    "RunRecord",
    "find_run",
    "is_own_name",
    "new_run",
]

#: Selects the newest run.
LAST = "last"

_VERSION = 1
_FILE = "run.json"
_MAX_METRIC_FILES = 1000
_ENVIRONMENT_FILE = "env.json"
#: Names in the folder of a run that no fetched file may have: a run that is reattached to starts
#: with the settings in them. Case is ignored, as by some file systems.
_OWN_NAMES = re.compile(r"\.?(?:run\.json|env\.json|attempt-[0-9-]+\.log)(?:\..*)?", re.I | re.S)


@dataclass(frozen=True)
class JobPlace:
    """A job and its host."""

    host_id: str
    job_id: str


@dataclass
class RunAttempt:
    """One start of the run: a job on each of its hosts; the first host's log gives the metrics."""

    attempt: int
    jobs: list[JobPlace] = field(default_factory=list)
    state: str = "running"


@dataclass
class RunRecord:
    """A run, as stored in its folder; `save` after a change.

    Times are Unix seconds of this machine. ``state`` is that of its last attempt, as
    `ringtasks.jobs` names it.
    """

    id: str
    folder: Path
    command: str
    started_at: float
    state: str = "running"
    ended_at: float | None = None
    exit_status: int | None = None
    """That of ``inv train``; None: it has not ended, or an older version saw it end."""
    attempts: list[RunAttempt] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """All settings of the run, as YAML values; empty: an older version made the run."""
    revision: str | None = None
    """The commit of the sent files, with ``-dirty`` if not all was committed; None: not known."""
    inventory: str | None = None
    """The inventory that the user named for it."""

    def __post_init__(self) -> None:
        #: Means this run as an argument of a task: its id; its path, if it is not in `runs`.
        self.argument = self.id

    def save(self) -> None:
        """Write ``run.json`` atomically: a reader finds the old one or the new one.

        :raises StateFileError: it cannot be written.
        """
        fields = {"version": _VERSION, **asdict(self)}
        del fields["folder"]
        self._write(_FILE, json.dumps(fields, indent=1) + "\n", mode=0o644)

    @contextlib.contextmanager
    def followed(self) -> Iterator[bool]:
        """Follow the run as the only process of this machine, from its state by now.

        Two would both let another host take over, and write to one log.  Yields False if the file
        system has no locks: then another process may follow it.

        :raises UsageError: another process follows it.
        """
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            is_locked = _is_locked(descriptor)
            if is_locked is False:
                raise UsageError(
                    f"{self.id}: another '{as_typed('train')}' on this machine follows it: wait "
                    "for that one or end it (Ctrl-C leaves the run going); "
                    f"'{self.hint(f'logs {self.id} -f')}' shows the log"
                )
            with contextlib.suppress(OSError, ValueError):
                now = _read(self.folder / _FILE)
                self.state, self.attempts = now.state, now.attempts
                self.ended_at, self.exit_status = now.ended_at, now.exit_status
            with held(descriptor):
                yield bool(is_locked)
        finally:
            os.close(descriptor)

    def keep_environment(self, env: Mapping[str, str]) -> None:
        """Write ``env.json``, readable by this user only.

        :raises StateFileError: it cannot be written.
        """
        self._write(_ENVIRONMENT_FILE, json.dumps(dict(env)), mode=0o600)

    def environment(self) -> dict[str, str]:
        """Return the mapping that `keep_environment` has written.

        :raises StateFileError: the file is missing or damaged.
        """
        file = self.folder / _ENVIRONMENT_FILE
        try:
            kept = json.loads(read_regular(file))
            return {str(name): str(value) for name, value in kept.items()}
        except OSError as error:
            raise StateFileError(str(file), error.strerror or str(error)) from error
        except (ValueError, RecursionError, AttributeError) as error:
            raise StateFileError(str(file), "it is damaged") from error

    def hint(self, command: str) -> str:
        """Return a command as the user types it, with the run's inventory if one was named."""
        named = f" --inventory {shlex.quote(self.inventory)}" if self.inventory else ""
        return as_typed(command + named)

    def discard(self) -> None:
        """Remove the folder of a run that never started."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def logs_of(self, attempt: int, count: int) -> Iterator[list[LogCopy]]:
        """Yield the local copies of an attempt's logs, one a job, written from their beginning."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(LogCopy(self._log(attempt, serial)))
                for serial in range(1, count + 1)
            ]

    def logs(self) -> list[list[Path]]:
        """Return the local copies of the logs: for each attempt, those of its jobs."""
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
        """True if a process on this machine saw it end."""
        return self.ended_at is not None

    @property
    def status(self) -> int:
        """The exit status of a run that has ended."""
        if self.exit_status is not None:
            return self.exit_status
        return 0 if self.state == "succeeded" else 1

    @property
    def last_job(self) -> str | None:
        """The id of the last attempt's first job; None: none was started."""
        return self.attempts[-1].jobs[0].job_id if self.attempts else None

    @property
    def metrics(self) -> Path:
        """The folder of the files of metrics that were fetched."""
        return self.folder / "metrics"

    def metric_files(self) -> list[Path]:
        """Return the files of metrics that were fetched, each folder's oldest name first."""
        found = itertools.islice(self.metrics.rglob("*"), _MAX_METRIC_FILES)
        return sorted(path for path in found if path.is_file() and is_metric_file(path.name))

    @property
    def checkpoint(self) -> Path:
        """The folder of the checkpoint's local copy."""
        return self.folder / "checkpoint"

    def _write(self, name: str, content: str, mode: int) -> None:
        try:
            replace_file(self.folder / name, content, mode=mode)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StateFileError(str(self.folder / name), reason) from error

    def _log(self, attempt: int, serial: int) -> Path:
        return self.folder / f"attempt-{attempt}{f'-{serial}' if serial > 1 else ''}.log"


class LogCopy:
    """A log that is written from its beginning, and never gets shorter. Usable with ``with``.

    If there is a copy already, the new one is written beside it, and replaces it once it is longer:
    the host may be gone, or may have deleted a part of its log.  If it cannot be written, for
    example on a full disk, it ends there; the host keeps the log.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = file.stat().st_size if file.exists() else 0
        self._beside = file.with_name(f".{file.name}.new") if self._known else None
        self._written = 0
        self._times = ArrivalTimes(file, self._known)
        self._out: BinaryIO | None = None
        self._is_ended = False

    def __enter__(self) -> LogCopy:
        with contextlib.suppress(OSError):  # `write` tells it
            self._write(b"")
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
        if self._beside is not None:
            self._beside.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> str | None:
        """Write so that others can read it at once.

        :returns: the reason why the copy ends here; None: it does not, or ended before.
        """
        if self._is_ended:
            return None
        try:
            self._write(chunk)
        except OSError as error:
            self._close()
            self._is_ended = True
            return error.strerror or str(error)
        return None

    def _write(self, chunk: bytes) -> None:
        if self._out is None:
            self._out = (self._beside or self._file).open("wb", buffering=0)
        write_all(self._out.fileno(), chunk)
        self._written += len(chunk)
        self._times.grown(self._written)
        if self._beside is not None and self._written > self._known:
            self._beside.replace(self._file)
            self._beside = None

    def _close(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None
            self._times.end()


def new_run(
    root: str | Path,
    name: str,
    command: str,
    settings: Mapping[str, Any] | None = None,
    inventory: str | None = None,
) -> RunRecord:
    """Make a new run's folder below ``root``: ``NAME-YYYYMMDD-HHMMSS``.

    :param settings: all of its settings but ``env``.

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
        record.settings, record.inventory = dict(settings or {}), inventory
        record.save()
        return record
    raise UsageError(f"train: runs: {root}: too many runs called {stem}")


def _is_locked(descriptor: int) -> bool | None:
    """Lock a folder until the descriptor is closed; False if another process has locked it.

    None: its file system has no locks.
    """
    try:
        return try_lock(descriptor)
    except OSError:
        return None


def is_own_name(name: str) -> bool:
    """Return True if a file of a run's record may have this name in its folder."""
    return _OWN_NAMES.fullmatch(name) is not None


def find_run(root: str | Path, wanted: str) -> RunRecord | None:
    """Return the run whose id, or a job's id, is ``wanted`` or begins with it; or the `LAST`.

    ``wanted`` may also be the path of a run's folder, as a shell completes it.  None if there is
    none.

    :raises UsageError: several begin with it.
    """
    if os.sep in wanted:
        with contextlib.suppress(OSError, ValueError):
            run = _read(Path(wanted) / _FILE)
            if Path(wanted).resolve().parent != Path(root).resolve():
                run.argument = shlex.quote(wanted)
            return run
    # One without an attempt is being started, or its process was killed before.
    runs = sorted(_runs(Path(root)), key=lambda run: (bool(run.attempts), run.started_at))
    if wanted in (LAST, ""):
        return runs[-1] if runs and wanted else None
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
        with contextlib.suppress(OSError, ValueError):
            yield _read(file)  # another program's file of that name is not a run


def _read(file: Path) -> RunRecord:
    """Read a record.

    :raises ValueError: it is none, or of another version.
    """
    try:
        fields = json.loads(read_regular(file))
        is_known = fields.pop("version") == _VERSION
        attempts = [
            RunAttempt(each["attempt"], [JobPlace(**job) for job in each["jobs"]], each["state"])
            for each in fields.pop("attempts")
        ]
        run = RunRecord(folder=file.parent, attempts=attempts, **fields)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file}: is no record of a run") from error
    if not is_known or not _is_valid(run):
        raise ValueError(f"{file}: is no record of a run")
    return run


def _is_valid(run: RunRecord) -> bool:
    """Return whether the fields have their types: people edit the file."""
    places = [text for each in run.attempts for job in each.jobs for text in astuple(job)]
    texts = (run.id, run.command, run.state, run.inventory or "", *places)
    times = (run.started_at, run.ended_at or 0.0)
    counts = (run.exit_status or 0, *(each.attempt for each in run.attempts))
    return (
        all(isinstance(text, str) for text in (*texts, *(each.state for each in run.attempts)))
        and all(type(time) in (int, float) and math.isfinite(time) for time in times)
        and all(type(number) is int for number in counts)
        and isinstance(run.settings, dict)
        and all(each.jobs for each in run.attempts)
    )
