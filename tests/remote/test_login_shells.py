"""Whatever the user's login shell on the host, a command means the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtasks.client.ssh_client import SSHClient
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.link import Terminal
from tests.support.fixtures import MakeSshd, Require
from tests.support.sshd import LOGIN_SHELLS

AWKWARD = 'it\'s "$HOME" `x` \\ !! %s\n*?[a]{b,c}~#& é \udcff'


@pytest.fixture(params=LOGIN_SHELLS)
def client(
    request: pytest.FixtureRequest,
    make_sshd: MakeSshd,
    client_key: Path,
    require: Require,
) -> SSHClient:
    require(LOGIN_SHELLS[request.param].split()[0])
    server = make_sshd(login_shell=request.param)
    (server.home / AWKWARD.replace("/", "")).mkdir()
    return SSHClient(SSHConfig(server.address, server.port, server.user, str(client_key)))


def test_environment_and_directory_arrive_byte_for_byte(client: SSHClient) -> None:
    expected = AWKWARD.encode("utf-8", "surrogateescape")

    with client:
        value = client.run('printf %s "$V"', env={"V": AWKWARD})
        folder = client.run('printf %s "${PWD##*/}"', cwd=f"~/{AWKWARD}")

    assert value.stdout_bytes == expected
    assert folder.stdout_bytes == expected


def test_command_runs_in_sh_under_each_login_shell(client: SSHClient) -> None:
    with client:
        result = client.run("for i in 1 2; do echo $i; done; x=3; echo $((x + 1)); exit 5")

    assert (result.stdout, result.returncode) == ("1\n2\n4\n", 5)


def test_terminal_works_under_each_login_shell(client: SSHClient) -> None:
    with client:
        result = client.run('echo "$V"', env={"V": "a'b"}, terminal=Terminal("dumb", 80, 24))

    assert result.stdout == "a'b\r\n"


def test_timeout_ends_a_command_under_each_login_shell(client: SSHClient) -> None:
    with client:
        result = client.run("echo up; sleep 60", timeout=0.7)

    assert result.timed_out
    assert result.stdout == "up\n"
    assert "terminated (verified)" in str(result.error)
