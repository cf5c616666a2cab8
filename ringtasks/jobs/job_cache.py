"""Cache of the jobs that waited or ran at a host's last answer, for when it is unreachable.

The hosts keep the facts.  The jobs that had ended are kept for a shell's completion.  There is one
file per host, ``$XDG_STATE_HOME/ringtasks/jobs/HOST.json``, replaced atomically; corrupt files are
ignored.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ringtasks.common.atomic_file import replace_file
from ringtasks.common.fork import RenewedLock
from ringtasks.common.regular_file import UNUSABLE, read_regular
from ringtasks.inventory.state_files import state_folder

from .states import JobState, JobStatus

__all__ = ["ended_at_last_answer", "had_job", "last_seen", "remember", "remember_started"]

_VERSION = 1
_FIELDS = (
    "id", "name", "command", "pid", "started_at", "log_file", "cwd", "by", "gpus", "group", "batch",
    "batch_size", "started_on",
)  # fmt: skip
#: Of the jobs that have ended.
_NAMES = ("id", "name", "group")
_MAX_ENDED = 50
#: One thread at a time adds a job.  Another process may overwrite it until the host's next answer.
_lock = RenewedLock()


def remember(host_id: str, jobs: Iterable[JobStatus]) -> None:
    """Save the host's jobs: those that wait or run, and the names of the others."""
    file = _file(host_id)
    jobs = list(jobs)
    if not jobs and not file.exists():
        return
    ended = sorted((job for job in jobs if job.is_ended), key=lambda job: -(job.started_at or 0))
    content = {
        "version": _VERSION,
        "at": round(time.time(), 3),
        "jobs": [_fields(job, _FIELDS) for job in jobs if job.state.is_live],
        "ended": [_fields(job, _NAMES) for job in ended[:_MAX_ENDED]],
    }
    _save(file, content)


def remember_started(job: JobStatus) -> None:
    """Add a job that this process has started to those of its host's last answer."""
    file = _file(job.host_id)
    with _lock.lock:
        content = _read(file) or {"version": _VERSION, "at": round(time.time(), 3), "jobs": []}
        content["jobs"].append(_fields(job, _FIELDS))
        _save(file, content)


def last_seen(host_id: str, reason: str) -> tuple[JobStatus, ...]:
    """Return the jobs that waited or ran at the host's last answer, in the state unknown."""
    content = _read(_file(host_id)) or {"jobs": []}
    try:
        return tuple(_unknown(host_id, fields, content["at"], reason) for fields in content["jobs"])
    except (ValueError, KeyError, TypeError):
        return ()


def had_job(host_id: str, wanted: str) -> bool:
    """Return True if the host had the job at its last answer: its id, its shown part or a name."""
    content = _read(_file(host_id)) or {}
    try:
        known = [*content.get("jobs", ()), *content.get("ended", ())]
        return any(
            str(job["id"]).startswith(wanted) or wanted in (job.get("name"), job.get("group"))
            for job in known
        )
    except (TypeError, KeyError, AttributeError):
        return False


def ended_at_last_answer(host_id: str, wanted: str) -> tuple[list[str], float]:
    """Return the ids of jobs of that id, name or group that had ended, and the answer's time."""
    content = _read(_file(host_id)) or {}
    try:
        ended = [job for job in content.get("ended", ()) if wanted in map(job.get, _NAMES)]
        return [str(job["id"]) for job in ended], float(content["at"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return [], 0.0


def _fields(job: JobStatus, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(job, name) for name in names}


def _read(file: Path) -> dict[str, Any] | None:
    """Return the content of a host's file; None: there is none that can be used."""
    try:
        content = json.loads(read_regular(file))
        is_usable = content["version"] == _VERSION and isinstance(content["jobs"], list)
    except UNUSABLE:
        return None
    return content if is_usable else None


def _unknown(host_id: str, fields: dict[str, object], at: float, reason: str) -> JobStatus:
    known = {name: fields[name] for name in _FIELDS if fields.get(name) is not None}
    status = JobStatus(host_id=host_id, state=JobState.UNKNOWN, **known)  # type: ignore[arg-type]  # JSON
    return replace(status, gpus=tuple(status.gpus), since=float(at), reason=reason)


def _file(host_id: str) -> Path:
    return state_folder() / "jobs" / f"{quote(host_id, safe='')}.json"


def _save(file: Path, content: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        replace_file(file, json.dumps(content), makes_folder=True)
