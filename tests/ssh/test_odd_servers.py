"""Servers other than a usual sshd are reached, or the error names what they lack."""

from __future__ import annotations

import io
from pathlib import Path

import paramiko
import pytest

from ringtasks import Connection, SSHClient, SSHConfig, SSHResult
from tests.support.dropbear import Dropbear
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.log_in_server import LogInServer
from tests.support.sshd import Sshd
from tests.support.terminal import at_terminal
from tests.support.tinyssh import TinySsh


def run_on(
    server: Sshd | Dropbear | TinySsh | LogInServer, key: Path, use_control_master: bool
) -> SSHResult:
    config = SSHConfig(server.address, server.port, server.user, str(key), name="box")
    config.use_control_master = use_control_master
    with SSHClient(config) as client:
        return client.run("echo in; exit 3", timeout=20)


def test_dropbear_is_reached(tmp_path: Path, client_key: Path, use_control_master: bool) -> None:
    server = Dropbear(tmp_path, client_key)
    try:
        result = run_on(server, client_key, use_control_master)
    finally:
        server.stop()

    assert (result.stdout, result.returncode, result.error) == ("in\n", 3, None)


def test_connection_runs_and_copies_on_dropbear(
    tmp_path: Path, client_key: Path, use_control_master: bool
) -> None:
    server = Dropbear(tmp_path, client_key)
    config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
    config.use_control_master = use_control_master
    back = io.BytesIO()
    try:
        with Connection(config) as connection:
            ran = connection.run("echo $A; exit 3", env={"A": "in"}, hide=True, warn=True)
            connection.put(io.BytesIO(b"hello"), "sent")
            connection.get("sent", back)
            names = connection.sftp().listdir()
    finally:
        server.stop()

    assert (ran.stdout, ran.exited, back.getvalue()) == ("in\n", 3, b"hello")
    assert "sent" in names


def test_connection_runs_on_tinyssh_and_names_the_missing_sftp(
    tmp_path: Path, client_key: Path
) -> None:
    with TinySsh(tmp_path, client_key) as server:
        config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
        with Connection(config) as connection:
            ran = connection.run("echo $A; exit 3", env={"A": "in"}, hide=True, warn=True)
            with pytest.raises(paramiko.SSHException, match="may offer no SFTP"):
                connection.sftp()

    assert (ran.stdout, ran.exited) == ("in\n", 3)


def test_tinyssh_is_reached_by_openssh_and_its_algorithms_named_in_process(
    tmp_path: Path, client_key: Path, use_control_master: bool
) -> None:
    with TinySsh(tmp_path, client_key) as server:
        result = run_on(server, client_key, use_control_master)

    if use_control_master:
        assert (result.stdout, result.returncode, result.error) == ("in\n", 3, None)
    else:
        assert_names_algorithms(result)


def assert_names_algorithms(result: SSHResult) -> None:
    assert result.returncode == 255
    assert "key exchange failed" in str(result.error)
    assert "chacha20-poly1305" in str(result.error) or "ssh-rsa" in str(result.error)


@pytest.mark.parametrize(
    ("lines", "offer", "advice"),
    [
        (["Ciphers aes256-cbc"], "aes256-cbc", "allow one that the server has"),
        (["KexAlgorithms sntrup761x25519-sha512@openssh.com"],
         "sntrup761x25519-sha512@openssh.com", "set use_control_master"),
    ],
    ids=["one that Paramiko has", "one that only OpenSSH has"],
)  # fmt: skip
def test_advice_for_missing_algorithms_in_process_is_a_way_that_works(
    make_sshd: MakeSshd, client_key: Path, lines: list[str], offer: str, advice: str
) -> None:
    result = run_on(make_sshd(overrides=lines), client_key, use_control_master=False)

    assert f"; the server has {offer}; {advice}" in str(result.error)


def test_server_with_a_cipher_only_openssh_supports_is_reached(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(config=["Ciphers chacha20-poly1305@openssh.com"])

    result = run_on(server, client_key, use_control_master)

    if use_control_master:
        assert (result.stdout, result.returncode) == ("in\n", 3)
    else:
        assert_names_algorithms(result)


@pytest.mark.parametrize("method", ["zlib", "zlib@openssh.com"])
def test_server_that_always_compresses_is_reached(
    client_key: Path, use_control_master: bool, method: str
) -> None:
    with LogInServer(compression=method) as server:
        result = run_on(server, client_key, use_control_master)

    assert (result.stdout, result.returncode, result.error) == ("in\n", 3, None)


@pytest.mark.parametrize("only", ["Ciphers 3des-cbc", "MACs hmac-md5\nCiphers aes128-ctr"])
def test_server_with_an_algorithm_that_openssh_gave_up_is_refused_by_name(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, only: str
) -> None:
    server = make_sshd(overrides=only.splitlines())

    result = run_on(server, client_key, use_control_master)

    assert result.returncode == 255
    assert only.split()[1] in str(result.error)


def test_server_that_signs_only_with_sha_1_is_refused_by_name(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(
        host_key_options=("-t", "rsa", "-b", "2048", "-N", ""),
        config=["HostKeyAlgorithms ssh-rsa"],
    )

    assert_names_algorithms(run_on(server, client_key, use_control_master))


def test_disconnect_message_of_the_server_is_the_evidence(use_control_master: bool) -> None:
    with LogInServer("key", hangs_up="Maintenance \x1b[2Juntil noon") as server:
        config = SSHConfig(server.address, server.port, "someone", name="box")
        config.use_control_master = use_control_master
        with SSHClient(config) as client:
            result = client.run("true", timeout=20)

    assert result.returncode == 255
    assert "unrecognised failure" in str(result.error)
    assert "until noon" in str(result.error)
    assert "\x1b" not in str(result.error)


@pytest.mark.parametrize(
    ("command", "evidence"),
    [
        ("/usr/sbin/nologin", "This account is currently not available"),
        ("echo only this; exit 0", "only this"),
        ("exec 2>/dev/null; echo Welcome; exit 0", "Welcome"),
    ],
    ids=["nologin", "forced command", "banner only"],
)
def test_host_that_runs_another_program_is_not_a_success(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, command: str, evidence: str
) -> None:
    server = make_sshd(config=[f"ForceCommand {command}"])

    result = run_on(server, client_key, use_control_master)

    assert (result.returncode, result.success) == (255, False)
    assert "ran something else" in str(result.error)
    assert evidence in str(result.error)


def test_host_that_allows_sftp_only_names_the_calls_that_use_it(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, tmp_path: Path
) -> None:
    server = make_sshd(config=[f"ForceCommand internal-sftp -d {tmp_path}"])
    config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
    config.use_control_master = use_control_master
    (tmp_path / "file").write_text("text")

    with SSHClient(config) as client:
        refused = client.run("echo in", timeout=20)
        copied = client.scp_to(tmp_path / "file", "copy")

    assert "allows sftp connections only.; SSHClient.scp_to and scp_from" in str(refused.error)
    assert copied.success, copied
    assert (tmp_path / "copy").read_text() == "text"


def test_restricted_shell_is_not_a_success(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(config=['ForceCommand exec bash --restricted -c "$SSH_ORIGINAL_COMMAND"'])

    result = run_on(server, client_key, use_control_master)

    assert (result.returncode, result.success) == (255, False)
    assert "restricted" in str(result.error)


@pytest.mark.parametrize("pty", [False, True], ids=["no terminal", "terminal"])
def test_connection_that_ends_after_the_log_in_is_named(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path, use_control_master: bool, pty: bool
) -> None:
    with LogInServer(drops=True) as server:
        write_hosts(box={"ssh_port": server.port, "use_control_master": use_control_master})
        inv("hosts")  # puts tasks.py there
        run = ["run", "--host", "box", "--cmd", "true", *(["--pty"] if pty else [])]
        if pty:
            status, shown = at_terminal(run, {}, tmp_path)
        else:
            done = inv(*run)
            status, shown = done.returncode, done.stderr

    assert status == 255, shown
    assert b"box: " in shown
    assert b"stdout" not in shown
