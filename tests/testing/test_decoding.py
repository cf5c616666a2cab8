"""Whatever is sent to a host is read back by the fake."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtasks import get_ssh_client
from ringtasks.remote.launcher import launch_script
from ringtasks.remote.marks import Mark
from ringtasks.remote.script import Script, encode, exec_line
from ringtasks.remote.stop_run import stop_run_script
from ringtasks.ssh.link import Exited
from ringtasks.testing import FakeFleet
from ringtasks.testing.decoding import (
    bootstrap_mark,
    decode_line,
    decode_payload,
    launch_in,
    stop_in,
)
from ringtasks.testing.links import FakeSession, ProgramStep

# Every text that can be sent: any bytes but NUL, those that are not UTF-8 as surrogate escapes.
any_text = st.one_of(
    st.binary(max_size=60).map(
        lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    ),
    st.text(st.sampled_from("'\"\\$`!~/. \n;a"), max_size=30),
)
any_command = any_text.filter(str.strip)
any_env = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), any_text)
any_venv = st.one_of(
    st.sampled_from(["~/venv", "source ~/a/bin/activate", ". x/env", "conda activate 'a b'"]),
    any_command,
)
any_run_id = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)


@settings(max_examples=100, deadline=None)
@given(any_command, st.none() | any_text, any_env, st.none() | any_venv, any_run_id, st.booleans())
def test_any_script_on_stdin_is_decoded(
    command: str, cwd: str | None, env: dict[str, str], venv: str | None, run_id: str, is_own: bool
) -> None:
    script = Script(command, cwd, env, venv, run_id, is_own=is_own)

    found = decode_payload(script.payload(), script.mark)

    assert found is not None
    assert (found.command, found.cwd, found.run_id) == (command, cwd, run_id)
    assert found.env == env
    assert found.payload() == script.payload()


@settings(max_examples=100, deadline=None)
@given(any_command, st.none() | any_text, st.none() | any_venv, any_run_id, st.booleans())
def test_any_script_in_the_exec_request_is_decoded(
    command: str, cwd: str | None, venv: str | None, run_id: str, is_own: bool
) -> None:
    script = Script(command, cwd, venv=venv, run_id=run_id, is_own=is_own)
    line = script.line("busybox ash")
    assert line is not None

    found = decode_line(line)

    assert found is not None
    assert (found.command, found.cwd, found.run_id) == (command, cwd, run_id)
    assert found.line("busybox ash") == line


@settings(max_examples=100, deadline=None)
@given(any_command, st.none() | any_text.filter(bool), any_run_id, st.sampled_from(["sh", "bash"]))
def test_any_job_start_is_decoded(command: str, log_file: str | None, job: str, shell: str) -> None:
    script = Script(launch_script(job, command, log_file, shell), run_id=job)

    found = launch_in(script, shell)

    assert found is not None
    assert found.command == command.rstrip("\n")
    assert (found.job_id, found.log_file) == (job, log_file)


@given(st.integers(1, 2**22), any_run_id, st.floats(0, 100))
def test_any_stop_request_is_decoded(pid: int, run_id: str, grace: float) -> None:
    assert stop_in(Script(stop_run_script(pid, run_id, grace))) == (pid, run_id)


@given(any_text)
def test_foreign_script_is_not_decoded_as_a_ringtasks_script(text: str) -> None:
    assert decode_line(text) is None
    assert decode_payload(encode(text), Mark.new()) is None
    assert bootstrap_mark(text) is None


def test_script_with_trailing_text_is_not_decoded() -> None:
    script = Script("ls")
    line = script.line()
    assert line is not None

    found = decode_line(line)

    assert found is not None
    assert vars(found) == vars(script)
    assert decode_line(line.removesuffix("'") + "; rm -rf /'") is None
    assert decode_payload(script.payload().rstrip() + b"; rm -rf /\n", script.mark) is None


@pytest.mark.parametrize("is_pty", [False, True])
def test_bootstrap_command_is_recognised(is_pty: bool) -> None:
    mark = Mark.new()

    assert bootstrap_mark(exec_line(mark, "busybox ash", pty=is_pty)) == mark


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
