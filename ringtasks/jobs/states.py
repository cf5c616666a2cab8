"""The state of a job, derived from its folder and from the running processes.  Pure.

::

    queued -> running -> succeeded | failed | killed | stopped
       |         |
       +---------+-----> lost        the host rebooted, or no exit status was recorded
    unknown since T                  the host cannot be asked; never reported as failed
    unknown, runs on ONE             it belongs to another machine that shares the home

A process is the job's only if it has the job's process id *and* start time *and* boot id: process
ids are reused, and the clock may be set.  A job runs as long as its process or its monitor does.
A file of the folder that is not in the launcher's format proves nothing: the state is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from ringtasks.common.text import TextEnum
from ringtasks.remote.answers import (
    AnswerError,
    Fields,
    exit_status,
    json_fields,
    or_none,
    process_id,
    unix_time,
    whole,
)

from .machine import Machine, Origin

__all__ = [
    "FOLDER_IS_GONE",
    "HostSnapshot",
    "Identity",
    "JobState",
    "JobStatus",
    "status_of",
    "unknown",
]


#: The reason for the state of a job without files.
FOLDER_IS_GONE = "its folder is gone from the host"
#: The largest index of a GPU.
_MAX_GPU = 4095

Value = TypeVar("Value")


class JobState(TextEnum):
    """State of a job; the value is shown to people and programs."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    STOPPED = "stopped"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def is_live(self) -> bool:
        """True if the job waits or runs."""
        return self in (JobState.QUEUED, JobState.RUNNING)

    @property
    def is_ended(self) -> bool:
        """True if the state will not change any more."""
        return self is not JobState.UNKNOWN and not self.is_live


@dataclass(frozen=True)
class JobStatus:
    """State of a job at one moment, as its host reports it.

    Times are Unix seconds of the host's clock; None: not yet, or not known.
    """

    id: str
    host_id: str
    state: JobState
    exit_status: int | None = None
    """The command's own; 128 + n: signal n killed it; None: not (yet) known."""
    reason: str = ""
    """More about the state: the user who stopped the job, or why it is lost or unknown."""
    name: str | None = None
    group: str | None = None
    """The name of the group of jobs that it belongs to; None: no group."""
    command: str = ""
    pid: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    since: float | None = None
    """For an unknown state: the time of the host's last answer."""
    log_file: str = ""
    cwd: str | None = None
    by: str = ""
    gpus: tuple[int, ...] = ()
    """The indices of the GPUs that are or were reserved for it."""
    asked_at: float | None = None
    """The host's clock when it answered."""
    runs_on: str | None = None
    """The machine that it belongs to, if that is another one than the host that was asked: it
    shares the home with it.  Only that machine can tell its state, stop it or delete it."""
    started_on: str | None = None
    """The name of its host in the inventory when it was started; None: not recorded."""
    batch: str | None = None
    """An id that the jobs of one start on several hosts have in common."""
    batch_size: int | None = None
    """The number of hosts of that start."""

    @property
    def is_ended(self) -> bool:
        """True if the state will not change any more."""
        return self.state.is_ended

    @property
    def seconds(self) -> float | None:
        """The run time in seconds; never below 0, even if the clock was set."""
        end = self.ended_at if self.is_ended else self.asked_at
        return None if end is None or self.started_at is None else max(0.0, end - self.started_at)

    def describe(self) -> str:
        """Describe the state: ``failed (3)``, ``killed (SIGKILL)``, ``stopped by ann@laptop``."""
        if self.state is JobState.FAILED:
            return f"failed ({self.exit_status})"
        if self.state is JobState.KILLED and self.exit_status is not None:
            return f"killed ({_signal_name(self.exit_status - 128)})"
        if self.runs_on is not None and self.state is JobState.UNKNOWN:
            return f"runs on {self.runs_on}"
        return f"{self.state} {self.reason}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of ``inv jobs --json``."""
        first = ("id", "name", "host_id", "state", "exit_status", "pid", "started_at", "ended_at")
        fields = {name: getattr(self, name) for name in (*first, "command", "log_file")}
        more = ("reason", "since", "cwd", "by", "group", "runs_on")
        return {
            **fields,
            "state": self.state.value,
            **{name: getattr(self, name) for name in more},
            "owner": self.by,
            "gpus": list(self.gpus),
        }


class Identity(NamedTuple):
    """Identity of a process, unique on its host (``remote/identity.sh``)."""

    pid: int
    boot: str
    start: str
    at: float | None = None

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """Parse ``PID BOOT START``, and the clock's time if that was recorded.

        :returns: None: the file is empty or does not exist.
        :raises AnswerError: it has another format.
        """
        pid, boot, start, at, *_ = [*text.split(), "", "", "", ""]
        return cls(process_id(pid), boot, start, or_none(unix_time, at)) if pid else None


class HostSnapshot(NamedTuple):
    """A host when the folders of its jobs were read.

    :param now: its clock.
    :param starts: start times of the processes that were asked about; "": the process is gone.
    """

    machine: Machine
    now: float | None
    starts: Mapping[int, str]

    def runs(self, identity: Identity | None, *, unasked: bool) -> bool:
        """Return whether the process runs; ``unasked`` if its id was not asked about."""
        if identity is None or identity.boot != self.machine.boot:
            return False
        if identity.pid not in self.starts:
            return unasked
        return self.starts[identity.pid] == identity.start


class _Folder:
    """The files of a job's folder, by name.

    :raises AnswerError: a file that decides about the state has an unexpected format.
    """

    def __init__(self, files: Mapping[str, str], host: HostSnapshot) -> None:
        self._files, self._host = files, host
        self.process = Identity.parse(files.get("process", ""))
        self._monitor = Identity.parse(files.get("monitor", ""))
        ended = files.get("exit_status", "").strip()
        self.exit_status = exit_status(ended) if ended else None
        self.about = _known(json_fields, files.get("about", "")) or Fields({})
        self._machine = self._own_machine()
        lock = files.get("lock", "") if self.exit_status is None else "free"
        self._origin = self._machine.origin(host.machine, lock)

    @property
    def runs_on(self) -> str | None:
        """The machine that it belongs to, if that is another one than the host."""
        is_elsewhere = self._origin is Origin.ELSEWHERE
        return self._machine.label(self._host.machine) if is_elsewhere else None

    def state(self) -> tuple[JobState, str]:
        """Return the job's state and the reason for it."""
        stopped = self._files.get("stopped")
        if self.exit_status is not None:
            return _ended(self.exit_status, stopped)
        if self.runs_on is not None:
            return JobState.UNKNOWN, f"it belongs to {self.runs_on}, which shares this home"
        process, host = self.process, self._host
        # A process that began since was not asked about, nor the monitor of one that was found.
        is_unasked = process is None or process.pid not in host.starts
        is_kept = host.runs(self._monitor, unasked=is_unasked)
        if host.runs(process, unasked=True) or (process is not None and is_kept):
            return JobState.RUNNING, ""
        if is_kept:
            return JobState.QUEUED, self._files.get("waits_for", "").strip()
        if stopped is not None:
            return JobState.STOPPED, f"by {stopped.strip()}".strip()
        return JobState.LOST, self._reason_of_loss()

    def _reason_of_loss(self) -> str:
        if self._monitor is None and self.process is None:
            return FOLDER_IS_GONE
        if self._origin is not Origin.EARLIER:
            return "gone without a trace"
        if self._machine.boot != self._host.machine.boot:
            return "the host was rebooted"
        return "gone, as after a restart of its container"

    def _own_machine(self) -> Machine:
        """Return the job's machine; its monitor's file is ``PID BOOT START LOCK MACHINE…``."""
        identity = self.process or self._monitor
        words = self._files.get("monitor", "").split()
        boot, name = identity.boot if identity else "", _known(self.about.text, "host") or ""
        return Machine.parse(boot, " ".join(words[4:7]), name)


def status_of(job_id: str, files: Mapping[str, str], host: HostSnapshot) -> JobStatus:
    """Return the status of a job.

    :param files: the files of its folder, by name.
    :raises AnswerError: a file that decides about the state has an unexpected format.
    """
    if "unread" in files:
        name = host.machine.name
        return unknown(job_id, name, None, "its files cannot be read on the host")
    folder = _Folder(files, host)
    process, text = folder.process, folder.about.text
    state, reason = folder.state()
    return JobStatus(
        id=job_id,
        host_id=host.machine.name,
        state=state,
        exit_status=folder.exit_status,
        reason=reason,
        name=_known(text, "name"),
        group=_known(text, "group"),
        command=files.get("command", ""),
        pid=process.pid if process else None,
        started_at=process.at if process else None,
        ended_at=or_none(unix_time, files.get("ended_at")),
        log_file=_known(text, "log_file") or f"~/.ringtasks/jobs/{job_id}/log",
        cwd=_known(text, "cwd"),
        by=_known(text, "by") or "",
        gpus=_gpus(files.get("gpus", "")),
        asked_at=host.now,
        runs_on=folder.runs_on,
        started_on=_known(text, "host"),
        batch=_known(text, "batch"),
        batch_size=_known(folder.about.whole, "batch_size", at_least=1),
    )


def unknown(job_id: str, host_id: str, since: float | None, reason: str) -> JobStatus:
    """Return the status of a job whose host cannot be asked."""
    return JobStatus(id=job_id, host_id=host_id, state=JobState.UNKNOWN, since=since, reason=reason)


def _ended(status: int, stopped: str | None) -> tuple[JobState, str]:
    if stopped is not None:
        return JobState.STOPPED, f"by {stopped.strip()}"
    if status == 0:
        return JobState.SUCCEEDED, ""
    return (JobState.KILLED if 128 < status <= 128 + 64 else JobState.FAILED), ""


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _known(read: Callable[..., Value], name: str, **bounds: int) -> Value | None:
    """Return what was recorded at the start of a job; None if it is missing or malformed."""
    try:
        return read(name, **bounds)
    except AnswerError:
        return None


def _gpus(text: str) -> tuple[int, ...]:
    found = (or_none(whole, word, at_most=_MAX_GPU) for word in text.split())
    return tuple(index for index in found if index is not None)
