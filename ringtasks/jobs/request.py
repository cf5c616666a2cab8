"""A request to start a job, and the conditions for which it waits (``turn.sh``).  Pure.

A GPU is free if no process is on it (``gpus.sh``), no job has reserved it, and hardly any of its
memory is in use: a container does not show the processes of others.  A reservation is a
symbolic link ``~/.ringtasks/gpus/UUID`` whose target names its holder: symlink(2) makes it whole or
not at all, for a single caller, and it needs no space on the disk.  It is valid as long as the
holder's monitor runs, or any process with the job's mark; so neither a killed monitor nor a reboot
leaves a GPU reserved.

A job that makes reservations holds ``lock``, a link as well.  If the holder has ended, the job that
creates the folder ``broken-HOLDER`` removes that lock.  Only one job can create it, so no job
removes the lock of a running holder.  The folder exists for a moment only; one that was left behind
is removed after a minute.

Jobs that queue for GPUs get them in the order of their tickets, ``~/.ringtasks/queue/TIME.ID``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ringtasks.errors import UsageError
from ringtasks.remote.gpus import HIDDEN_MIB, HIDDEN_PERCENT
from ringtasks.remote.launcher import LOG_LIMIT_BYTES, JobOptions, launch_script
from ringtasks.remote.programs import Program
from ringtasks.remote.script import Script

__all__ = ["JobRequest"]

_TURN = Program(__file__, "turn.sh")
#: The fields that are recorded in the job's folder, beside its command.
_RECORDED = ("name", "group", "batch", "batch_size", "host", "cwd", "log_file")


@dataclass(frozen=True)
class JobRequest:
    """Command of a job and its options; see `jobs.start`.

    :raises ValueError: a field is invalid.
    """

    command: str
    name: str | None = None
    log_file: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    gpus: int = 0
    after: str | None = None
    queue: bool = False
    log_limit_bytes: int = LOG_LIMIT_BYTES
    group: str | None = None
    any_memory: bool = False
    batch: str | None = None
    batch_size: int | None = None
    host: str | None = None

    def __post_init__(self) -> None:
        Script(self.command)  # checks it, so that the error names the command, not the launcher
        if self.name is not None and (not self.name.strip() or not self.name.isprintable()):
            raise UsageError(f"name: {self.name!r} is empty or has control characters")
        if self.name is not None and ("," in self.name or self.name == "all"):
            raise UsageError(f"name: {self.name!r} means several jobs: no comma, and not 'all'")
        _check_whole("gpus", self.gpus, 0)
        _check_whole("log_limit_bytes", self.log_limit_bytes, 1)
        if self.after is not None and not self.after.isalnum():
            raise UsageError(f"after: expected the id of a job, got {self.after!r}")

    def script(self, job_id: str, by: str, shell: str) -> str:
        """Return the script that starts the job on the host; it does not contain ``env``."""
        about = {"by": by, **{name: getattr(self, name) for name in _RECORDED}}
        options = JobOptions(
            about=json.dumps({key: value for key, value in about.items() if value is not None}),
            turn=self._turn(job_id),
            log_limit_bytes=self.log_limit_bytes,
        )
        return launch_script(job_id, self.command, self.log_file, shell, options)

    def _turn(self, job_id: str) -> str:
        """Return the shell functions by which the job waits, or reserves its GPUs at once."""
        if not self.gpus and self.after is None:
            return ""
        return _TURN.render(
            rt_id=job_id,
            rt_after=self.after or "",
            rt_count=self.gpus,
            rt_queue=int(self.queue),
            rt_percent="" if self.any_memory else HIDDEN_PERCENT,
            rt_mib=HIDDEN_MIB,
        )


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}: expected a whole number, at least {least}, got {value!r}")
