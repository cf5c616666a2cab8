"""Control masters that are gone when the test ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.inprocess.connection import find_way
from ringtasks.ssh.link import STDERR, STDOUT, Exited, Session
from ringtasks.ssh.master import processes
from ringtasks.ssh.master.link import MuxLink
from ringtasks.ssh.master.open import open_link
from ringtasks.ssh.master.records import Master
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

__all__ = ["Masters", "finish", "output"]


class Masters:
    """Masters to one server, in a folder of the test's own."""

    def __init__(self, folder: Path, sshd: Sshd, key: Path) -> None:
        self.folder = folder
        self.config = SSHConfig(sshd.address, sshd.port, sshd.user, str(key), name="box")

    def start(self, config: SSHConfig | None = None, transport: str | None = None) -> Master:
        """The master for the host, started if there is none."""
        with contextlib.closing(self.link(config, transport)) as link:
            return link.master

    def link(self, config: SSHConfig | None = None, transport: str | None = None) -> MuxLink:
        """Over the master for the host, started if there is none."""
        link = open_link(config or self.config, transport, lambda _: None, find_way)
        assert link is not None
        return link

    def running(self) -> list[int]:
        return [pid for pid, _ in processes.masters_in(self.folder)]

    def sockets(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.is_socket()]


@pytest.fixture
def masters(sshd: Sshd, client_key: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Masters]:
    runtime = Path(tempfile.mkdtemp(prefix="rt-run-"))  # shorter than tmp_path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    folder = runtime / "ringtasks"
    yield Masters(folder, sshd, client_key)
    for pid, _ in processes.masters_in(folder):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not list(processes.masters_in(folder)))
    shutil.rmtree(runtime)


def finish(session: Session, timeout: float = 10.0) -> tuple[int, bytes, bytes]:
    """The exit status, and all that a program still writes to stdout and stderr."""
    written = {STDOUT: b"", STDERR: b""}
    while True:
        happened = session.receive(timeout)
        assert happened is not None, f"nothing happened in {timeout} s after {written}"
        if isinstance(happened, Exited):
            session.close()
            return happened.status, written[STDOUT], written[STDERR]
        written[happened.stream] += happened.chunk


def output(link: MuxLink, command: str) -> bytes:
    """Return the stdout of a command."""
    session = link.open_session(command)
    session.send_eof()
    status, stdout, stderr = finish(session)
    assert status == 0, stderr
    return stdout
