"""An answer counts only if it begins with the mark of its own exchange.

The hosts here run something else than they are asked for, or print before it: real sshd, real
shells.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks import Connection, SSHClient, SSHConfig
from ringtasks.client.dialogue import Ask
from ringtasks.errors import ADVICE, OtherProgramError, Reason
from ringtasks.remote.marks import Mark, MarkedOutput
from ringtasks.ssh.link import Terminal
from ringtasks.transfer import Options, get, put, sync
from tests.support.fixtures import Inv
from tests.support.sshd import Sshd

MakeSshd = Callable[..., Sshd]
WriteHosts = Callable[..., Path]

REFUSAL = "echo 'Please login as ubuntu'; sleep 0.2"
#: Programs that run in the place of ours, and end with exit status 0.
OTHER_PROGRAMS = {
    "a refusal": REFUSAL,
    "nothing at all": "true",
    "what was asked for, repeated": 'echo "$SSH_ORIGINAL_COMMAND"',
    "the same, through a shell": 'sh -c "echo $SSH_ORIGINAL_COMMAND"',
    "the same, without quotes": 'echo "$SSH_ORIGINAL_COMMAND" | tr -d "\\\\042\\\\047"',
    "its input, repeated": 'echo "$SSH_ORIGINAL_COMMAND"; cat',
}


def forced(command: str) -> dict[str, list[str]]:
    return {"config": [f"ForceCommand {command}"]}


def config_of(server: Sshd, key: Path, *, master: bool) -> SSHConfig:
    return SSHConfig(
        server.address,
        port=server.port,
        user=server.user,
        key_path=str(key),
        use_control_master=master,
    )


@pytest.fixture(params=OTHER_PROGRAMS)
def other(request: pytest.FixtureRequest, make_sshd: MakeSshd) -> Sshd:
    return make_sshd(**forced(OTHER_PROGRAMS[request.param]))


@pytest.fixture
def client(other: Sshd, client_key: Path, use_control_master: bool) -> Iterator[SSHClient]:
    with SSHClient(config_of(other, client_key, master=use_control_master)) as made:
        yield made


@pytest.mark.matrix(4)
def test_unexpected_remote_program_is_never_a_successful_command(client: SSHClient) -> None:
    result = client.run("make", timeout=10)

    assert (result.success, result.returncode, result.stdout) == (False, 255, "")
    assert result.error is not None
    assert "the host ran something else: " in result.error
    assert result.error.endswith(f"; {ADVICE[Reason.OTHER_PROGRAM]}")
    assert not result.is_unknown


@pytest.mark.matrix(4)
def test_unexpected_remote_program_receives_no_environment(client: SSHClient) -> None:
    result = client.run("make", timeout=5, env={"TOKEN": "s3cr3t"})

    assert not result.success
    assert "s3cr3t" not in str(result.to_dict())
    assert not result.stderr


@pytest.mark.matrix(4)
def test_unexpected_remote_program_starts_no_job(client: SSHClient) -> None:
    result = asyncio.run(client.run_background("make"))

    assert (result.success, result.returncode, result.stdout) == (False, 255, "")
    assert "the host ran something else: " in str(result.error)


@pytest.mark.matrix(4)
def test_unexpected_remote_program_does_not_count_as_connectivity(client: SSHClient) -> None:
    for fresh in (False, True):
        is_well, said = asyncio.run(client.check_connectivity(fresh=fresh))

        assert not is_well
        assert "the host ran something else: " in said


def test_answer_that_is_cut_short_does_not_count_as_connectivity(
    make_sshd: MakeSshd, write_hosts: WriteHosts, inv: Inv
) -> None:
    server = make_sshd(**forced('sh -c "$SSH_ORIGINAL_COMMAND" | head -n 1'))
    write_hosts(a={"ssh_port": server.port})

    checked = inv("check", "--fresh")

    assert (checked.returncode, b"cut short" in checked.stdout) == (255, True), checked


@pytest.mark.matrix(4)
def test_unexpected_remote_program_is_sent_no_file_and_returns_none(
    client: SSHClient, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("content")

    for done in (put(tmp_path / "f", "~/f", [client]), get("~/f", tmp_path / "g", [client])):
        (only,) = done.failed
        assert not only.success
        assert "the host ran something else: " in str(only.error)
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("is_control_master", [False, True])
def test_tasks_do_not_accept_the_output_of_an_unexpected_program(
    inv: Inv, write_hosts: WriteHosts, make_sshd: MakeSshd, is_control_master: bool, tmp_path: Path
) -> None:
    server = make_sshd(**forced(REFUSAL))
    write_hosts(a={"ssh_port": server.port, "use_control_master": is_control_master})
    (tmp_path / "f").write_text("content")

    for words, status in {
        ("run", "--cmd", "make"): 255,
        ("run", "--cmd", "make", "--json"): 255,
        ("start", "--cmd", "make"): 255,
        ("status",): 255,
        ("jobs",): 255,
        ("check",): 255,
        ("check", "--fresh"): 255,
    }.items():
        done = inv(words[0], "--host", "a", *words[1:])

        assert done.returncode == status, done
        assert b"Please login as ubuntu" in done.stdout + done.stderr, done
        assert words[0] != "start" or not done.stdout
    (told,) = map(json.loads, inv("run", "--host", "a", "--cmd", "x", "--json").stdout.splitlines())
    assert (told["success"], told["stdout"]) == (False, "")


@pytest.mark.matrix(4)
def test_unexpected_remote_program_is_not_recorded_as_a_route_failure(
    client: SSHClient,
) -> None:
    client.run("make", timeout=10)

    assert (client.health.total_successes, client.health.total_failures) == (1, 0)


def test_interactive_shell_started_instead_of_the_script_is_ended(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(**forced("bash --login -i"))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        result = client.run("make", timeout=20, env={"TOKEN": "s3cr3t"})

    assert (result.returncode, result.stderr) == (255, "")
    assert "the host ran something else: " in str(result.error)
    assert "s3cr3t" not in str(result.error)


def test_command_that_the_host_did_not_read_is_not_reported_to_have_failed(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(**forced('sh -c "$SSH_ORIGINAL_COMMAND" </dev/null'))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        results = [client.run("make", env={"A": "1"}), client.ask(Ask("make", env={"A": "1"}))]

    for result in results:
        assert (result.returncode, result.stdout, result.is_other_program) == (255, "", True)
        assert "a shell without the stdin for the command" in str(result.error)


def test_connection_reports_a_script_that_the_host_did_not_read(
    make_sshd: MakeSshd,
    client_key: Path,
    use_control_master: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = make_sshd(**forced('sh -c "$SSH_ORIGINAL_COMMAND" </dev/null'))
    config = config_of(server, client_key, master=use_control_master)

    with Connection(config) as connection, pytest.raises(OtherProgramError) as caught:
        connection.run("make", env={"A": "1"}, in_stream=False)

    assert "a shell without the stdin for the command" in str(caught.value)
    assert "ringtasks:" not in capfd.readouterr().out


def test_environment_is_not_repeated_by_a_terminal_that_records_sessions(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(**forced('script -qec "$SSH_ORIGINAL_COMMAND" ~/record'))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        result = client.run("echo ${#TOKEN}; exit 3", env={"TOKEN": "s3cr3t" * 1000}, timeout=20)

    assert (result.returncode, result.stdout) == (3, "6000\r\n")
    assert "s3cr3t" not in (server.home / "record").read_text()


@pytest.mark.matrix(4)
def test_connection_sends_no_environment_to_an_unexpected_program(
    other: Sshd, client_key: Path, use_control_master: bool
) -> None:
    with (
        Connection(
            config_of(other, client_key, master=use_control_master), connect_timeout=3
        ) as connection,
        pytest.raises(OtherProgramError) as caught,
    ):
        connection.run("make", env={"TOKEN": "s3cr3t"}, hide=True)

    assert "s3cr3t" not in str(caught.value)


#: Programs that answer in the place of ours, and do not end by themselves.
LASTING = {
    "echo 'Please login as ubuntu'; sleep 30": (1, (124, True, False)),
    "echo 'Please login as ubuntu'; exec >&- 2>&-; exec sleep 300": (50, (255, False, True)),
}


@pytest.mark.parametrize("program", LASTING)
def test_output_of_a_program_that_runs_on_without_the_start_marker_is_shown(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, program: str
) -> None:
    timeout, outcome = LASTING[program]
    server = make_sshd(**forced(program))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        result = client.run("make", timeout=timeout)

    assert (result.returncode, result.timed_out, result.is_other_program) == outcome, result
    assert "Please login as ubuntu" in str(result.error)


#: A command in the request for a session, and scripts on stdin, without and with a terminal.
WAYS: dict[str, dict[str, Any]] = {
    "request": {},
    "stdin": {"env": {"TOKEN": "s3cr3t"}},
    "terminal": {"env": {"TOKEN": "s3cr3t"}, "terminal": Terminal("dumb", 80, 24)},
}


@pytest.mark.parametrize("way", WAYS)
def test_timeout_before_the_start_marker_is_no_lost_link(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, way: str
) -> None:
    server = make_sshd(**forced("sleep 30"))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        result = client.run("make", timeout=1.5, **WAYS[way])

    assert (result.returncode, result.timed_out, result.is_unknown) == (124, True, False)
    told = str(result.error)
    assert "the host printed nothing; if the login files take longer, raise command_timeout" in told
    assert ("the command had not been started" in told) == (way != "request")


@pytest.mark.long
@pytest.mark.parametrize(
    "program", ["sleep 90", "echo Please wait; sleep 90", "printf ringtasks:; sleep 90"]
)
def test_host_that_never_becomes_ready_for_a_script_is_given_up(
    make_sshd: MakeSshd, client_key: Path, program: str, use_control_master: bool
) -> None:
    config = config_of(make_sshd(**forced(program)), client_key, master=use_control_master)
    with SSHClient(replace(config, connect_timeout=5)) as client:
        result = client.run("make", env={"TOKEN": "s3cr3t"})

    assert (result.returncode, result.is_unknown, result.is_other_program) == (255, False, True)
    assert "raise connect_timeout if its login files take longer" in str(result.error)
    assert 14_000 < result.elapsed_ms < 50_000


@pytest.mark.long
def test_script_whose_mark_is_changed_does_not_wait_a_minute_for_its_input(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    changes = r"""sh -c "$SSH_ORIGINAL_COMMAND" | sed -u s/g/G/"""
    config = config_of(make_sshd(**forced(changes)), client_key, master=use_control_master)
    with SSHClient(replace(config, connect_timeout=5)) as client:
        result = client.ask(Ask("cat", 120, stdin=io.BytesIO(b"s3cr3t")))

    assert (result.returncode, result.is_unknown) == (255, True)
    assert "rinGtasks:" in str(result.error)
    assert 14_000 < result.elapsed_ms < 50_000


@pytest.mark.long
def test_host_whose_mark_comes_slowly_does_not_run_something_else(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    slow = """sh -c "$SSH_ORIGINAL_COMMAND" | { dd bs=12 count=1 2>/dev/null; sleep 17; cat; }"""
    config = config_of(make_sshd(**forced(slow)), client_key, master=use_control_master)
    with SSHClient(replace(config, connect_timeout=5)) as client:
        result = client.run("echo $TOKEN", env={"TOKEN": "s3cr3t"})

    assert (result.stdout, result.error) == ("s3cr3t\n", None)


def test_beginning_of_a_mark_is_noticed() -> None:
    mark = Mark.new()
    answer = MarkedOutput(mark)

    seen = [(answer.take(chunk), answer.is_arriving)[1] for chunk in (
        b"Welcome\n", mark.printed[:3], mark.printed[3:14], mark.printed[14:], b"42\n",
    )]  # fmt: skip

    assert seen == [False, False, True, True, False]


@pytest.mark.parametrize("way", WAYS)
def test_command_of_a_slow_login_shell_runs_once(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, way: str
) -> None:
    server = make_sshd(**forced('sleep 2.5; exec sh -c "$SSH_ORIGINAL_COMMAND"'))
    command = "echo x >>~/runs; exit 7"
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        result = client.run(command, timeout=20, **WAYS[way])

    assert (result.returncode, result.error) == (7, None)
    assert (server.home / "runs").read_text() == "x\n"


NOISE = 'echo Welcome; echo Warning >&2; eval "$SSH_ORIGINAL_COMMAND"'


@pytest.fixture
def noisy(make_sshd: MakeSshd, client_key: Path, use_control_master: bool) -> Iterator[SSHClient]:
    server = make_sshd(**forced(NOISE))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        yield client


def test_login_file_output_is_not_part_of_the_command_output(noisy: SSHClient) -> None:
    for env in (None, {"A": "b"}):
        result = noisy.run("printf %s out", env=env)

        assert (result.success, result.stdout) == (True, "out")
        assert "Welcome" not in result.stderr


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
@pytest.mark.matrix(2)
def test_file_copy_works_despite_login_file_output(
    noisy: SSHClient, tmp_path: Path, size: int
) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "f").write_bytes(content[:size])

    assert put(tmp_path / "f", "~/f", [noisy])
    assert get("~/f", tmp_path / "g", [noisy])
    assert (tmp_path / "g").read_bytes() == content[:size]


def test_directory_copy_works_despite_login_file_output(noisy: SSHClient, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_text(name * 100_000)

    assert sync(tmp_path / "folder", "~/folder", [noisy])
    assert sync("~/folder", tmp_path / "back", [noisy], pull=True)
    assert (tmp_path / "back" / "b").read_text() == "b" * 100_000


SFTP_SERVERS = {
    "text before the server": ("echo Welcome; exec /usr/lib/openssh/sftp-server", "Welcome"),
    "text without an end": ("echo Hi; sleep 60", "Hi"),
    "no program": ("exec /no/such/program", "no SFTP server"),
    "no answer": ("sleep 60", "no SFTP server"),
}


@pytest.mark.parametrize("case", SFTP_SERVERS)
def test_program_that_is_not_an_sftp_server_is_reported_in_the_result(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, tmp_path: Path, case: str
) -> None:
    command, reason = SFTP_SERVERS[case]
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    server = make_sshd(sftp=str(program))
    (tmp_path / "f").write_text("content")
    config = config_of(server, client_key, master=use_control_master)
    with SSHClient(replace(config, connect_timeout=3.0)) as client:
        result = client.scp_to(tmp_path / "f", "f")

        assert not result.success
        assert reason in str(result.error)
        assert "unreachable" not in str(result.error)
        assert (client.health.total_successes, client.health.total_failures) == (1, 0)
        assert client.run("true").success
        if case == "no answer":
            late = client.scp_from("f", tmp_path / "back", timeout=0.3)
            assert (late.returncode, late.timed_out) == (124, True), late


def test_time_limit_holds_while_the_host_opens_no_session(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, tmp_path: Path
) -> None:
    server = make_sshd()
    (tmp_path / "f").write_text("content")
    config = config_of(server, client_key, master=use_control_master)
    with SSHClient(replace(config, connect_timeout=60.0)) as client:
        assert client.run("true").success
        server.freeze()
        try:
            command = client.run("true", timeout=0.3)
            copied = client.scp_to(tmp_path / "f", "f", timeout=0.3)
            sent = put(tmp_path / "f", "f", [client], Options(timeout=0.3))
            synced = sync(tmp_path, "folder", [client], Options(timeout=0.3))
            threads = {thread.name for thread in threading.enumerate()}
        finally:
            server.thaw()

    for result in (command, copied):
        assert (result.returncode, result.timed_out) == (124, True), result
    assert [each.returncode for each in (*sent, *synced)] == [124, 124]
    assert "ringtasks-relay" not in threads


@pytest.mark.skipif(os.geteuid() != 0, reason="the setting is for root")
def test_route_that_is_dropped_after_each_log_in_is_reported_once(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(overrides=["PermitRootLogin forced-commands-only"])
    for _ in range(4):  # at times the log-in itself is seen to fail
        with SSHClient(config_of(server, client_key, master=False)) as client:
            error = str(client.run("true").error)
        assert len(error.splitlines()) == 2, error
        assert "look at the host's sshd log" in error


@pytest.mark.matrix(4)
def test_forced_command_is_reported_as_no_sftp_server(
    other: Sshd, client_key: Path, use_control_master: bool, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("content")
    config = config_of(other, client_key, master=use_control_master)

    with SSHClient(replace(config, connect_timeout=3.0)) as client:
        result = client.scp_to(tmp_path / "f", "f")

    assert not result.success
    assert "the host starts no SFTP server" in str(result.error)
    assert client.health.total_failures == 0


@pytest.mark.parametrize("most", [1, 2])
def test_copy_waits_for_a_free_session_on_the_host(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, tmp_path: Path, most: int
) -> None:
    server = make_sshd(config=[f"MaxSessions {most}"])
    (tmp_path / "f").write_text("content")
    go = tmp_path / "go"
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        assert client.run("true").success
        with ThreadPoolExecutor() as pool:
            command = f"until [ -e {go} ]; do sleep 0.05; done; exit 7"
            up = [threading.Event() for _ in range(most)]
            running = [
                pool.submit(
                    client.run, f"echo up; {command}", 30, on_output=lambda *_, e=e: e.set()
                )
                for e in up
            ]
            assert all(event.wait(10) for event in up)
            late = client.scp_to(tmp_path / "f", "f", timeout=1)
            unbegun = [client.run("true", 0.2) for _ in range(4)]
            copying = pool.submit(client.scp_to, tmp_path / "f", "f")
            putting = pool.submit(put, tmp_path / "f", "g", [client])
            go.touch()

            assert late.timed_out
            said = "the command had not been started"
            assert [result.timed_out and said in str(result.error) for result in unbegun] == [
                True
            ] * 4
            assert [ended.result().returncode for ended in running] == [7] * most
            assert copying.result().success, copying.result()
            assert putting.result(), putting.result()


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("exec sleep 6 >/dev/null 2>&1", 0),
        ("exec >&- 2>&-; sleep 1; exit 3", 3),
        ("exec >/dev/null 2>&1; sleep 1; kill -9 $$", 137),
    ],
)
def test_command_that_closes_its_output_keeps_its_exit_status(
    sshd: Sshd, client_key: Path, use_control_master: bool, command: str, status: int
) -> None:
    with SSHClient(config_of(sshd, client_key, master=use_control_master)) as client:
        result = client.run(command, timeout=20)

        assert (result.returncode, result.error) == (status, None)
        assert client.health.total_failures == 0


def test_timeout_applies_to_a_command_that_closed_its_output(
    sshd: Sshd, client_key: Path, use_control_master: bool
) -> None:
    with SSHClient(config_of(sshd, client_key, master=use_control_master)) as client:
        result = client.run("exec sleep 60 >/dev/null 2>&1", timeout=1)

    assert (result.timed_out, result.returncode) == (True, 124)


def test_truncated_script_output_is_not_an_answer(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(**forced('eval "$SSH_ORIGINAL_COMMAND" | head -n 1'))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        result = client.ask(Ask("echo one; echo two; exit 3"))

    assert (result.success, result.is_unknown) == (False, True)
    assert "cut short" in str(result.error)


def test_script_reports_its_own_exit_status(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(**forced('sh -c "$SSH_ORIGINAL_COMMAND" | cat'))
    with SSHClient(config_of(server, client_key, master=use_control_master)) as client:
        result = client.ask(Ask("printf one; exit 3"))

    assert (result.returncode, result.stdout, result.error) == (3, "one", None)


@given(
    st.binary(max_size=80),
    st.binary(max_size=80),
    st.lists(st.integers(0, 200)),
    st.booleans(),
    st.booleans(),
)
def test_answer_does_not_depend_on_chunk_boundaries(
    before: bytes, output: bytes, cuts: list[int], has_end: bool, is_sent_later: bool
) -> None:
    mark = Mark.new()
    end = mark.printed + b"end:7\n" if has_end else b""
    whole = before + mark.printed + b"42\n" + output + mark.printed[:9] + end
    answer, taken = MarkedOutput(mark, has_end=has_end, is_sent_later=is_sent_later), b""

    for start, stop in itertools.pairwise([0, *sorted(cuts), len(whole)]):
        taken += answer.take(whole[start:stop])

    assert taken + answer.rest() == output + mark.printed[:9]
    assert (answer.pid, answer.status, answer.preface) == (42, 7 if has_end else None, before)


def test_echoed_start_marker_is_not_accepted() -> None:
    mark = Mark.new()
    answer = MarkedOutput(mark)

    assert answer.take(f"{mark.hello}\n{mark.hello.replace('$', '')}\n".encode()) == b""
    assert answer.pid is None
    assert mark.printed not in mark.hello.encode()
