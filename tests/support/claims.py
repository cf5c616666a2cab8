"""Claims of tasks, and the truth on the host: one case for each kind of task.

A case prepares the host, gives the arguments of ``inv``, and returns the false claims of a result.
A result of None means that the task was killed here: it claims nothing.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringtasks import SSHClient, jobs
from ringtasks.remote.launcher import JOBS_FOLDER
from tests.support.jobs import is_alive, marked
from tests.support.processes import of_home

__all__ = ["CASES", "Case", "Result", "is_unknown"]

Result = subprocess.CompletedProcess[bytes]

_OLD = b"old content\n"
#: Texts by which a task says that it does not know whether the command ran.
_UNKNOWN = ("unknown", "may have", "may still be running")


class Case:
    """One task on a host with the home ``home``; ``near`` is a folder of this machine.

    :param client: reaches the same home without any fault.
    """

    #: Seconds after which the task may be killed here.
    longest = 1.2

    def __init__(self, home: Path, near: Path, client: SSHClient, chance: random.Random) -> None:
        self.home, self.near, self.client, self.chance = home, near, client, chance
        # On a disk that is never full, for any user.
        self._truth = home.parent / "truth"
        shutil.rmtree(self._truth, ignore_errors=True)
        self._truth.mkdir()
        self._truth.chmod(0o777)
        self.prepare()

    def prepare(self) -> None:
        """Make what the task needs."""

    def settings(self) -> dict[str, Any]:
        """Return the content of ``invoke.yaml``."""
        return {}

    def arguments(self, host: str) -> list[str]:
        """Return the arguments of ``inv``."""
        raise NotImplementedError

    def false_claims(self, result: Result | None) -> list[str]:
        """Return what the result claims and is not true."""
        raise NotImplementedError

    def notes(self, name: str) -> str:
        """Return a command that writes down that it came here."""
        return f"echo x >>{self._truth}/{name}"

    def _lines(self, name: str) -> int:
        """Return how often a command came there."""
        file = self._truth / name
        return len(file.read_text().splitlines()) if file.exists() else 0

    def _outlive_processes(self) -> None:
        """Wait until no process of the host is left that may do more; those of sshd stay."""
        _settled(lambda: not of_home(self.home))


def _said(result: Result) -> str:
    return (result.stdout + result.stderr).decode(errors="replace")


def is_unknown(result: Result) -> bool:
    return any(word in _said(result) for word in _UNKNOWN)


def _settled(condition: Callable[[], bool]) -> bool:
    """Return True if the condition holds within two seconds."""
    deadline = time.monotonic() + 2
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


class Run(Case):
    def prepare(self) -> None:
        self.status = self.chance.choice([0, 3])

    def arguments(self, host: str) -> list[str]:
        command = f"{self.notes('began')}; sleep 0.1; {self.notes('done')}; exit {self.status}"
        return ["run", "--host", host, "--cmd", command]

    def false_claims(self, result: Result | None) -> list[str]:
        began, done = self._lines("began"), self._lines("done")
        found = [f"it ran {began} times"] if began > 1 else []
        if result is None:
            return found
        if result.returncode == self.status and done != 1:
            found.append(f"claims exit status {self.status}, ended {done} times")
        if result.returncode == 255 and not is_unknown(result) and began:
            found.append("claims that it did not run, and it began")
        if "terminated (verified)" in _said(result):
            self._outlive_processes()
            if self._lines("done") > done:
                found.append("claims that it was terminated, and it went on")
        return found


class Put(Case):
    def prepare(self) -> None:
        self.sent = self.near / "sent"
        self.sent.write_bytes(self.chance.randbytes(300_000))
        self.target = self.home / "target"
        if self.chance.random() < 0.5:
            self.target.write_bytes(_OLD)

    def arguments(self, host: str) -> list[str]:
        return ["put", str(self.sent), "~/target", "--host", host]

    def false_claims(self, result: Result | None) -> list[str]:
        there = self.target.read_bytes() if self.target.exists() else None
        if there not in (None, _OLD, self.sent.read_bytes()):
            return ["the target has half a file"]
        if result is not None and result.returncode == 0 and there != self.sent.read_bytes():
            return ["claims that it was sent"]
        return []


class Get(Put):
    def prepare(self) -> None:
        self.sent = self.home / "source"
        self.sent.write_bytes(self.chance.randbytes(300_000))
        self.target = self.near / "target"
        if self.chance.random() < 0.5:
            self.target.write_bytes(_OLD)

    def arguments(self, host: str) -> list[str]:
        return ["get", "~/source", str(self.target), "--host", host]


class Sync(Case):
    def prepare(self) -> None:
        self.tree = self.near / "tree"
        self.tree.mkdir()
        for n in range(4):
            (self.tree / f"{n}").write_bytes(self.chance.randbytes(30_000))
        (self.home / "tree").mkdir()
        (self.home / "tree/0").write_bytes(_OLD)

    def arguments(self, host: str) -> list[str]:
        return ["sync", str(self.tree), "~/tree", "--host", host]

    def false_claims(self, result: Result | None) -> list[str]:
        found = []
        for file in self.tree.iterdir():
            there = self.home / "tree" / file.name
            content = there.read_bytes() if there.exists() else None
            if content not in (None, _OLD, file.read_bytes()):
                found.append(f"{file.name} is half a file")
            if result is not None and result.returncode == 0 and content != file.read_bytes():
                found.append(f"claims that {file.name} is equal")
        return found


class Start(Case):
    def arguments(self, host: str) -> list[str]:
        return ["start", "--host", host, "--cmd", f"{self.notes('began')}; sleep 0.1"]

    def false_claims(self, result: Result | None) -> list[str]:
        if result is None:
            return [] if self._lines("began") <= 1 else ["it was started twice"]
        if result.returncode == 0:
            job_id = result.stdout.decode().strip()
            folder = self.home / JOBS_FOLDER / job_id
            is_there = (folder / "pid").exists() if job_id else False
            if not is_there or not _settled(
                lambda: self._lines("began") == 1 or _is_killed(folder)
            ):
                return [f"claims that {job_id or 'nothing'} was started"]
            return []
        self._outlive_processes()  # of what was started against the claim
        began = self._lines("began")
        if began > 1:
            return ["it was started twice"]
        if "terminated (verified)" in _said(result):
            ids = [folder.name for folder in self.home.glob(f"{JOBS_FOLDER}/*")]
            return [f"claims that it was ended: {left}"] if (left := marked(*ids)) else []
        return ["claims that it was not started"] if began and not is_unknown(result) else []


def _is_killed(folder: Path) -> bool:
    """Return whether the job of a folder was killed, by its record or since it has none."""
    file = folder / "exit_status"
    text = file.read_text().strip() if file.exists() else ""
    return text == "137" or (not text and not is_alive(int((folder / "pid").read_text())))


class OfJob(Case):
    """A task about a job that was started before."""

    command = "for n in 1 2 3 4 5 6; do echo line $n; sleep 0.1; done; exit 3"

    def prepare(self) -> None:
        self.job = jobs.start(self.client, self.command)

    @property
    def folder(self) -> Path:
        return self.home / JOBS_FOLDER / self.job.id


class Logs(OfJob):
    def arguments(self, host: str) -> list[str]:
        return ["logs", self.job.id, "-f", "--host", host, "--patience", "6"]

    def false_claims(self, result: Result | None) -> list[str]:
        if result is None:
            return []
        self.job.wait(10)
        log = (self.folder / "log").read_bytes()
        if result.returncode == 0 and result.stdout != log:
            return [f"claims that this is the log: {result.stdout!r}"]
        return [] if log.startswith(result.stdout) else ["shows what is not in the log"]


class Wait(OfJob):
    def arguments(self, host: str) -> list[str]:
        return ["wait", self.job.id, "--host", host, "--patience", "6"]

    def false_claims(self, result: Result | None) -> list[str]:
        if result is None or result.returncode == 255:
            return []
        file = self.folder / "exit_status"
        ended = file.read_text().strip() if file.exists() else None
        if "lost" in _said(result):  # true of a job whose monitor was killed, too
            process = int((self.folder / "pid").read_text())
            return ["claims that it is lost"] if ended or is_alive(process) else []
        is_right = result.returncode == 3 and ended == "3"
        is_mistaken = result.returncode in (1, 2) and "no such job" not in _said(result)
        if not is_right and (result.returncode == 0 or result.returncode == 3 or is_mistaken):
            return [f"claims {result.returncode}; it ended with {ended}: {_said(result)}"]
        return []


class Stop(OfJob):
    command = "trap '' TERM; (setsid sleep 50 &); sleep 50; sleep 50"

    def arguments(self, host: str) -> list[str]:
        return ["stop", self.job.id, "--grace", "0.2", "--host", host]

    def false_claims(self, result: Result | None) -> list[str]:
        left = marked(self.job.id)
        if result is not None and result.returncode == 0 and left:
            return [f"claims that nothing is left: {left}"]
        if result is not None and "terminated (verified)" in _said(result) and left:
            return [f"claims verified ends: {left}"]
        return []


CASES: dict[str, type[Case]] = {
    "run": Run, "put": Put, "get": Get, "sync": Sync, "start": Start, "logs -f": Logs,
    "wait": Wait, "stop": Stop,
}  # fmt: skip
