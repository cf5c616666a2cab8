"""A server that asks for no proof of identity (Tailscale SSH) is reached, whatever keys exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks import Connection, SSHClient, SSHConfig
from tests.support.fixtures import Inv, WriteHosts
from tests.support.log_in_server import LogInServer
from tests.support.sshd import Sshd, make_key


@pytest.fixture(scope="module")
def open_server() -> Iterator[LogInServer]:
    with LogInServer("none") as server:
        yield server


def write_config(server: LogInServer, *lines: str) -> Path:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    block = (f"HostName {server.address}", f"Port {server.port}", "User someone", *lines)
    (folder / "config").write_text("Host box\n" + "".join(f"  {line}\n" for line in block))
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "PreferredAuthentications publickey",
        "PubkeyAuthentication no",
        "IdentityFile ~/.ssh/locked",
        "IdentityFile ~/.ssh/missing",
        "IdentityAgent ~/.ssh/no-agent",
    ],
)
def test_settings_of_keys_do_not_matter(
    line: str, open_server: LogInServer, use_control_master: bool
) -> None:
    folder = write_config(open_server, line, "IdentitiesOnly yes")
    if "locked" in line:
        make_key(folder / "locked", "-t", "ed25519", "-N", "secret")

    with SSHClient(SSHConfig("box", use_control_master=use_control_master)) as client:
        result = client.run("echo in", timeout=20)

    assert (result.stdout, result.error) == ("in\n", None)


def test_every_task_logs_in_without_a_key(
    inv: Inv, write_hosts: WriteHosts, open_server: LogInServer, use_control_master: bool
) -> None:
    write_config(open_server)
    box = {"ssh_host": "box", "ssh_port": None, "ssh_key": None, "ssh_user": None}
    write_hosts(box={**box, "use_control_master": use_control_master})

    tasks = (["run", "--cmd", "true"], ["check"], ["check", "--fresh"], ["status"])
    done = [inv(task[0], "--host", "box", *task[1:]) for task in tasks]
    with Connection("box") as connection:
        ran = connection.run("echo in", hide=True)

    assert [each.returncode for each in done] == [0, 0, 0, 0], done
    assert ran.stdout == "in\n"


def test_open_server_behind_a_jump_host_is_reached(
    open_server: LogInServer, sshd: Sshd, client_key: Path, use_control_master: bool
) -> None:
    folder = write_config(open_server, "ProxyJump jump")
    with (folder / "config").open("a") as file:
        file.write(
            f"Host jump\n  HostName {sshd.address}\n  Port {sshd.port}\n"
            f"  IdentityFile {client_key}\n  IdentitiesOnly yes\n"
        )

    with SSHClient(SSHConfig("box", use_control_master=use_control_master)) as client:
        result = client.run("echo in", timeout=20)

    assert (result.stdout, result.error) == ("in\n", None)
