"""`Connection.run` as Fabric documents it: time limits, environments, shells and statuses."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabric
import pytest
from invoke.exceptions import CommandTimedOut, UnexpectedExit

from ringtasks import Connection, SSHConfig
from tests.support.fixtures import MakeSshd
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

MakeConnection = Callable[..., Connection]


@pytest.fixture
def connect(sshd: Sshd, client_key: Path, use_control_master: bool) -> MakeConnection:
    def make(server: Sshd = sshd, **options: Any) -> Connection:
        config = SSHConfig(
            server.address, server.port, server.user, str(client_key), name="box",
            use_control_master=use_control_master,
        )  # fmt: skip
        return Connection(config, **options)

    return make


def test_timeout_raises_and_ends_the_remote_processes(connect: MakeConnection) -> None:
    with connect() as connection:
        with pytest.raises(CommandTimedOut) as caught:
            connection.run("echo begun; sleep 98.1 & sleep 98.1", timeout=0.5, hide=True)

        assert caught.value.timeout == 0.5
        assert caught.value.result.stdout == "begun\n"
        assert not runs("sleep 98.1")
        assert connection.run("echo still here", hide=True).stdout == "still here\n"


def test_timeout_applies_with_a_terminal(connect: MakeConnection) -> None:
    with connect() as connection, pytest.raises(CommandTimedOut):
        connection.run("trap '' HUP; sleep 98.2", timeout=0.5, pty=True, hide=True)

    assert not runs("sleep 98.2")


def test_configured_command_timeout_applies(connect: MakeConnection) -> None:
    config = fabric.Config(overrides={"timeouts": {"command": 0.5}})
    with connect(config=config) as connection, pytest.raises(CommandTimedOut):
        connection.run("sleep 98.3", hide=True)

    assert not runs("sleep 98.3")


@pytest.mark.skipif(not shutil.which("sudo"), reason="sudo is missing")
def test_timeout_applies_to_sudo(connect: MakeConnection) -> None:
    with connect() as connection, pytest.raises(CommandTimedOut):
        connection.sudo("sleep 98.4", timeout=0.5, hide=True)

    assert not runs("sleep 98.4")


def test_timeout_ends_a_command_with_an_environment(connect: MakeConnection) -> None:
    with connect() as connection, pytest.raises(CommandTimedOut):
        connection.run("sleep 98.5", env={"A": "1"}, timeout=0.5, hide=True)

    assert not runs("sleep 98.5")


def test_killing_a_promise_ends_the_remote_processes(connect: MakeConnection) -> None:
    with connect() as connection:
        promise = connection.run("sleep 98.6", asynchronous=True)
        eventually(lambda: runs("sleep 98.6"))
        promise.runner.kill()

        with pytest.raises(UnexpectedExit):
            promise.join()

    assert not runs("sleep 98.6")


def test_command_is_ended_on_a_host_that_allows_one_session(
    connect: MakeConnection, make_sshd: MakeSshd
) -> None:
    server = make_sshd(config=["MaxSessions 1"])
    with connect(server) as connection, pytest.raises(CommandTimedOut):
        connection.run("sleep 98.7", timeout=0.5, hide=True)

    assert not runs("sleep 98.7")


def test_sftp_over_a_master_waits_for_a_session_to_end(
    sshd: Sshd, client_key: Path, make_sshd: MakeSshd
) -> None:
    server = make_sshd(config=["MaxSessions 1"])
    config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
    with Connection(config) as connection:
        promise = connection.run("echo; exec sleep 0.4", asynchronous=True, hide=True)
        eventually(lambda: promise.runner.stdout)

        assert connection.sftp().normalize(".") == str(server.home)
        assert promise.join().exited == 0


def test_timeout_does_not_change_a_command_that_ends_in_time(connect: MakeConnection) -> None:
    with connect() as connection:
        result = connection.run(
            "printf '%s|' \"it's\" '!' 'a\\\\b'; exit 3", timeout=20, hide=True, warn=True
        )

    assert (result.stdout, result.exited) == ("it's|!|a\\\\b|", 3)


@pytest.mark.parametrize("pty", [False, True])
def test_environment_values_need_not_be_strings(connect: MakeConnection, pty: bool) -> None:
    with connect() as connection:
        values = {"A": 1, "B": None, "C": b"x"}
        result = connection.run("echo $A $B $C", env=values, pty=pty, hide=True)

    assert result.stdout.split() == ["1", "None", "b'x'"]


def test_local_environment_may_contain_names_invalid_in_a_shell(
    connect: MakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASH_FUNC_which%%", "() { :; }")
    with connect() as connection:
        result = connection.run("echo $A", env={"A": "1"}, replace_env=False, hide=True)

    assert result.stdout == "1\n"


@pytest.mark.parametrize("options", [{"env": {"A": "1"}}, {"timeout": 20}, {}])
def test_login_shell_runs_the_command_with_any_options(
    connect: MakeConnection, make_sshd: MakeSshd, options: dict[str, Any]
) -> None:
    server = make_sshd(environ={"SHELL": shutil.which("bash")})
    (server.home / "x").write_text("y=sourced\n")
    with connect(server) as connection, connection.prefix(f"source {server.home}/x"):
        result = connection.run('[[ a == a ]] && echo "$y"', hide=True, **options)

    assert result.stdout == "sourced\n"


def test_configured_environment_is_not_in_the_process_list(connect: MakeConnection) -> None:
    config = fabric.Config(overrides={"run": {"env": {"SECRET_OF_TEST": "xyzzy-1"}}})
    with connect(config=config) as connection:
        result = connection.run(
            "echo $SECRET_OF_TEST; cat /proc/[0-9]*/cmdline >&2 || :", hide=True, timeout=20
        )

    assert result.stdout == "xyzzy-1\n"
    assert "xyzzy-1" not in result.stderr


def test_output_of_a_program_that_the_host_runs_instead_is_whole(
    connect: MakeConnection, make_sshd: MakeSshd
) -> None:
    # Its end may be the beginning of a mark.
    server = make_sshd(config=["ForceCommand printf 'Log in as another user'"])
    with connect(server) as connection:
        assert connection.run("true", timeout=20, hide=True).stdout == "Log in as another user"


def runs(command: str) -> bool:
    found = subprocess.run(["pgrep", "-f", "-x", command], capture_output=True, check=False)
    return found.returncode == 0
