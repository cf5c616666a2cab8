"""Cache of the jobs that waited or ran at a host's last answer, for when it is unreachable.

The hosts keep the facts.  There is one file per host,
``$XDG_STATE_HOME/ringtasks/jobs/HOST.json``, replaced atomically; corrupt files are ignored.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from ringtasks.common.atomic_file import replace_file
from ringtasks.inventory.state_files import state_folder

from .states import JobState, JobStatus

__all__ = ["last_seen", "remember"]

_VERSION = 1
_FIELDS = (
    "id", "name", "command", "pid", "started_at", "log_file", "cwd", "by", "gpus", "group", "batch",
    "batch_size", "started_on",
)  # fmt: skip


def remember(host_id: str, jobs: Iterable[JobStatus]) -> None:
    """Save those of the host's jobs that wait or run."""
    file = _file(host_id)
    live = [job for job in jobs if job.state.is_live]
    if not live and not file.exists():
        return
    content = {
        "version": _VERSION,
        "at": round(time.time(), 3),
        "jobs": [{name: getattr(job, name) for name in _FIELDS} for job in live],
    }
    with contextlib.suppress(OSError):
        _replace(file, json.dumps(content))


def last_seen(host_id: str, reason: str) -> tuple[JobStatus, ...]:
    """Return the jobs that waited or ran at the host's last answer, in the state unknown."""
    try:
        content = json.loads(_file(host_id).read_text())
        if content["version"] != _VERSION:
            return ()
        return tuple(_unknown(host_id, fields, content["at"], reason) for fields in content["jobs"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _unknown(host_id: str, fields: dict[str, object], at: float, reason: str) -> JobStatus:
    known = {name: fields[name] for name in _FIELDS if fields.get(name) is not None}
    status = JobStatus(host_id=host_id, state=JobState.UNKNOWN, **known)  # type: ignore[arg-type]  # JSON
    return replace(status, gpus=tuple(status.gpus), since=float(at), reason=reason)


def _file(host_id: str) -> Path:
    return state_folder() / "jobs" / f"{quote(host_id, safe='')}.json"


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(file, text)
