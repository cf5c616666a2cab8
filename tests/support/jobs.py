"""A host with a home of its own, and what tests do with the jobs there."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, TypeVar

from ringtasks import SSHClient, jobs
from ringtasks.remote.launcher import JOBS_FOLDER
from tests.support.processes import proc_files
from tests.support.waiting import eventually

__all__ = ["JobHost", "end_jobs", "is_alive", "is_waited_for", "marked", "reboot"]

T = TypeVar("T")


class JobHost:
    """A client, and the home of the user whom it logs in as."""

    def __init__(self, home: Path, client: SSHClient) -> None:
        self.home, self.client = home, client

    def start(self, command: str, **options: Any) -> jobs.Job:
        return jobs.start(self.client, command, **options)

    def folder(self, job: jobs.Job) -> Path:
        return self.home / JOBS_FOLDER / job.id

    def log(self, job: jobs.Job) -> str:
        return (self.folder(job) / "log").read_text()

    def pid(self, job: jobs.Job, file: str = "process") -> int:
        """Of the command's process, or of its monitor."""
        return int((self.folder(job) / file).read_text().split()[0])

    def kill_monitor(self, job: jobs.Job) -> None:
        monitor = self.pid(job, "monitor")
        os.kill(monitor, signal.SIGKILL)
        eventually(lambda: not is_alive(monitor))

    def reboot(self) -> None:
        """As if the host had been booted since: what was written bears another boot's id."""
        reboot(self.home)


def reboot(home: Path) -> None:
    """As if the host of that home had been booted since its jobs were started.

    Their processes run on, so the lock of their monitors, the fourth word, is left out.
    """
    for name in ("process", "monitor"):
        for file in home.glob(f"{JOBS_FOLDER}/*/{name}"):
            pid, _, start, fourth, *machine = file.read_text().split()
            fourth = fourth if name == "process" else "-"
            file.write_text(" ".join([pid, "another-boot", start, fourth, *machine]) + "\n")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def is_waited_for(home: Path) -> bool:
    """Whether a shell of that home sleeps until it looks again if a job has ended."""
    for file in proc_files("cmdline"):
        with contextlib.suppress(OSError):
            if file.read_bytes() == b"sleep\x000.2\x00":
                environ = file.with_name("environ").read_bytes().split(b"\0")
                if b"HOME=" + os.fsencode(home) in environ:
                    return True
    return False


def marked(*job_ids: str) -> list[int]:
    """The processes that bear the mark of one of these jobs."""
    marks = [f"RINGTASKS_RUN_ID={job_id}".encode() for job_id in job_ids]
    found = []
    for file in proc_files("environ"):
        with contextlib.suppress(OSError):
            environ = file.read_bytes()
            if any(mark in environ for mark in marks):
                found.append(int(file.parent.name))
    return found


def end_jobs(home: Path) -> None:
    """Kill what was started, and see that nothing is left of it."""
    ids = [folder.name for folder in home.glob(f"{JOBS_FOLDER}/*")]
    if ids:
        eventually(lambda: _kill(marked(*ids)))


def _kill(pids: list[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not pids
