"""A log-in that PAM decides about, on a real sshd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from tests.support.faulty import Blackhole
from tests.support.fixtures import Inv, WriteHosts
from tests.support.pam import PamSshd
from tests.support.sshd import Sshd
from tests.support.terminal import at_terminal

METHODS = ("publickey,keyboard-interactive", "keyboard-interactive")


@pytest.fixture(params=METHODS, ids=["key and code", "code"])
def box(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    client_key: Path,
    write_hosts: WriteHosts,
    use_control_master: bool,
) -> Iterator[PamSshd]:
    if os.getuid() != 0:
        pytest.skip("only root can add a PAM service")
    with PamSshd(tmp_path, client_key, request.param) as server:
        fields = {"ssh_port": server.sshd.port, "use_control_master": use_control_master}
        write_hosts(box=fields)
        yield server


@pytest.mark.matrix(2)
def test_code_is_asked_for_at_a_terminal(box: PamSshd, inv: Inv, tmp_path: Path) -> None:
    inv("hosts")  # puts tasks.py there
    typed = {box.question: f"{box.code}\n".encode()}

    run = ["run", "--pty", "--host", "box", "--cmd", "echo a; exit 7"]
    status, shown = at_terminal(run, typed, tmp_path)

    assert (status, box.code.encode() in shown) == (7, False), (shown, box.sshd.log)


def test_code_of_a_jump_host_is_asked_for_once_beside_a_silent_route(
    tmp_path: Path, client_key: Path, sshd: Sshd, write_hosts: WriteHosts, inv: Inv
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can add a PAM service")
    with PamSshd(tmp_path, client_key, METHODS[0]) as bastion, Blackhole() as silent:
        fields = {"proxy_jump": "bastion", "use_control_master": True, "connect_timeout": 2}
        fields |= {"tailscale_ip": silent.address, "tailscale_port": silent.port}
        write_hosts(bastion={"ssh_port": bastion.sshd.port}, box=fields)
        inv("hosts")
        typed = {bastion.question: f"{bastion.code}\n".encode()}

        run = ["run", "--pty", "--host", "box", "--cmd", "echo a; exit 7"]
        status, shown = at_terminal(run, typed, tmp_path)

    assert (status, shown.count(bastion.question)) == (7, 1), shown
    assert b"tailscale timed out; connected via direct" in shown


def test_code_is_never_asked_for_without_a_terminal(box: PamSshd, inv: Inv) -> None:
    done = inv("run", "--host", "box", "--cmd", "cat", stdin=f"{box.code}\n".encode())

    assert done.returncode == 255
    assert b"it needs keyboard-interactive (2FA)" in done.stderr
    assert b"log in once with 'inv shell --host " in done.stderr
    assert box.question not in done.stdout + done.stderr


@pytest.mark.matrix(2)
def test_wrong_code_is_a_refused_log_in(box: PamSshd, inv: Inv, tmp_path: Path) -> None:
    inv("hosts")
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text("NumberOfPasswordPrompts 1\n")
    typed = {box.question: b"000000\n"}

    run = ["run", "--pty", "--host", "box", "--cmd", "echo a"]
    status, shown = at_terminal(run, typed, tmp_path)

    assert status == 255, shown
    assert b"authentication refused" in shown


def test_words_of_a_host_that_ends_the_log_in_are_shown(
    tmp_path: Path, client_key: Path, use_control_master: bool
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can add a PAM service")
    account = ["requisite pam_echo.so This account has expired", "requisite pam_deny.so"]
    with PamSshd(tmp_path, client_key, "publickey", account) as server:
        config = SSHConfig("127.0.0.1", server.sshd.port, server.sshd.user, str(client_key))
        config.use_control_master = use_control_master
        with SSHClient(config) as client:
            error = str(client.run("true").error)

    assert "reset: " in error
    assert "the host said: This account has expired; see the host's words" in error


def test_expired_password_can_be_changed_in_a_shell(
    tmp_path: Path,
    client_key: Path,
    write_hosts: WriteHosts,
    inv: Inv,
    other_users: tuple[str, str],
    use_control_master: bool,
) -> None:
    user = other_users[0]
    subprocess.run(["chage", "-d", "0", user], check=True)
    try:
        with PamSshd(tmp_path, client_key, "publickey", ["required pam_unix.so"]) as server:
            fields = {"ssh_port": server.sshd.port, "ssh_user": user}
            write_hosts(box={**fields, "use_control_master": use_control_master})

            done = inv("run", "--host", "box", "--cmd", "true")
            typed = {b"Current password:": b"not this one\n"}
            _, shown = at_terminal(["shell", "--host", "box"], typed, tmp_path)
    finally:
        subprocess.run(["chage", "-d", "1", user], check=True)

    assert done.returncode == 255
    assert b"Your password has expired" in done.stderr
    assert b"change the password at a terminal, with 'inv shell'" in done.stderr
    assert b"change your password" in shown
