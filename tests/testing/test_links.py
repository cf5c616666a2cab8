"""Commands and jobs reach a fake host unchanged, and its sessions behave like a server's."""

from __future__ import annotations

import asyncio
import time

import pytest

from ringtasks import get_ssh_client
from ringtasks.ssh.link import Exited
from ringtasks.testing import FakeFleet
from ringtasks.testing.links import FakeSession, ProgramStep


def test_command_over_the_raw_link_is_answered_and_recorded(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("ls", stdout="x", returncode=4)
    link = get_ssh_client("gpu1").link()

    session = link.open_session("ls")
    assert session.receive(0) is None
    session.send_eof()

    assert [session.receive(1), session.receive(1)] == [(1, b"x"), Exited(4)]
    assert link.await_session_end(0.01)
    session.close()
    assert not link.await_session_end(0.01)


def test_end_of_stdin_during_a_program_step_is_not_missed(fleet: FakeFleet) -> None:
    link = fleet["gpu1"].log_in("direct")

    class Program:
        def step(self, stdin: bytearray, *, is_at_eof: bool) -> ProgramStep | None:
            if is_at_eof:
                return ProgramStep(status=0)
            session.send_eof()
            return None

        def due_in(self) -> float | None:
            return None

    session = FakeSession(link, Program(), None)
    started = time.monotonic()

    assert session.receive(5) == Exited(0)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("log_file", "path"),
    [
        (None, None),
        ('~/it\'s "a"/$HOME.log', '~/it\'s "a"/$HOME.log'),
        ("/tmp/a b", "/tmp/a b"),
        ("x/-log", "~/work/x/-log"),
        ("$HOME/x", "~/work/$HOME/x"),
    ],
)
def test_log_of_a_job_is_a_file_of_the_fake_host(
    fleet: FakeFleet, log_file: str | None, path: str | None
) -> None:
    fleet["gpu1"].on("train it's", stdout="began")

    start = get_ssh_client("gpu1").run_background("train it's", log_file, cwd="~/work")
    assert asyncio.run(start).success

    (call,) = fleet["gpu1"].calls
    assert (call.command, call.cwd, call.is_background) == ("train it's", "~/work", True)
    (log,) = fleet["gpu1"].files
    assert fleet["gpu1"].files[path or log] == b"began"
