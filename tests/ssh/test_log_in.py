"""A log-in goes by every method that OpenSSH knows, and asks at a terminal only."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringtasks import Connection, SSHClient, SSHConfig, SSHResult
from ringtasks.common import alarms
from tests.support.agents import Agent, UnwillingAgent
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.log_in_server import LogInServer
from tests.support.sshd import Sshd, make_key
from tests.support.terminal import at_terminal

URL = "https://login.example.com/a/1234"


def config_of(server: LogInServer, use_control_master: bool, **settings: object) -> SSHConfig:
    return SSHConfig(
        server.address,
        server.port,
        "someone",
        use_control_master=use_control_master,
        **settings,  # type: ignore[arg-type]
    )


def run_on(config: SSHConfig, command: str = "echo in", timeout: float = 20) -> SSHResult:
    with SSHClient(config) as client:
        return client.run(command, timeout=timeout)


def test_server_without_authentication_is_accepted(use_control_master: bool) -> None:
    with LogInServer("none") as server:
        result = run_on(config_of(server, use_control_master))

    assert (result.stdout, result.error) == ("in\n", None)


@pytest.fixture
def notices() -> Iterator[list[str]]:
    heard: list[str] = []
    alarms.on_notice(lambda host, text: heard.append(f"{host}: {text}"))
    yield heard
    alarms.on_notice(None)


def test_banner_is_shown_while_the_login_waits(
    use_control_master: bool, notices: list[str]
) -> None:
    with LogInServer(banner=f"# To authenticate, visit:\n\x1b[2J# {URL}\r\n", delay=1.3) as server:
        config = config_of(server, use_control_master, connect_timeout=5)
        thread = threading.Thread(target=run_on, args=(config,))
        thread.start()
        thread.join(1.2)
        shown, was_waiting = list(notices), thread.is_alive()
        thread.join()

    assert was_waiting
    assert len(shown) == 1
    assert URL in shown[0]
    assert "\x1b" not in shown[0]
    assert "waiting up to 5 s" in shown[0] or "waiting up to 4 s" in shown[0]


def test_banner_extends_the_login_timeout(use_control_master: bool) -> None:
    with LogInServer(banner=URL, banner_delay=0.8, delay=1.4) as server:
        result = run_on(config_of(server, use_control_master, connect_timeout=2))

    assert result.success, result


def test_missing_login_approval_is_reported(use_control_master: bool) -> None:
    with LogInServer(banner=f"visit {URL}", delay=20) as server:
        result = run_on(config_of(server, use_control_master, connect_timeout=0.7))

    assert result.returncode == 255
    assert "timed out" in str(result.error)
    assert URL in str(result.error)
    assert "do what the host asks for within connect_timeout" in str(result.error)
    assert "firewall" not in str(result.error)
    assert result.elapsed_ms < 5000


def test_banner_is_not_shown_if_the_login_proceeds(
    use_control_master: bool, notices: list[str]
) -> None:
    with LogInServer(banner="Authorised use only.") as server:
        result = run_on(config_of(server, use_control_master))

    assert result.success, result
    assert notices == []


@pytest.mark.parametrize("wants", ["code", "password"])
def test_login_without_a_terminal_never_prompts(wants: str, use_control_master: bool) -> None:
    with LogInServer(wants) as server:
        result = run_on(config_of(server, use_control_master, batch_mode=False))

    assert result.returncode == 255
    expected = "keyboard-interactive (2FA)" if wants == "code" else "a password"
    assert f"it needs {expected}" in str(result.error)
    assert "there is no key" not in str(result.error)
    assert result.elapsed_ms < 5000


def test_task_without_a_terminal_suggests_the_shell_task_and_keeps_stdin(
    inv: Inv, write_hosts: WriteHosts, use_control_master: bool
) -> None:
    with LogInServer("code") as server:
        write_hosts(
            box={
                "ssh_port": server.port,
                "ssh_key": None,
                "use_control_master": use_control_master,
            }
        )
        ran = inv("run", "--host", "box", "--cmd", "cat", "--json", stdin=b"123456\n")
        checked = inv("check", "--host", "box", "--json", stdin=b"123456\n")

    assert (ran.returncode, checked.returncode) == (255, 255)
    for done in (ran, checked):
        assert b"keyboard-interactive (2FA)" in done.stdout
        assert b"log in once with 'inv shell --host box'" in done.stdout
        assert b"Verification code" not in done.stdout + done.stderr
    assert ran.stdout.count(b"\n") == 1


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """An ssh-agent; call it to add a key."""
    with Agent(tmp_path / "agent") as running:
        monkeypatch.setenv("SSH_AUTH_SOCK", running.path)
        yield running.add


def test_agent_key_that_cannot_sign_is_skipped_for_the_next(
    sshd: Sshd,
    client_key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_control_master: bool,
) -> None:
    bad = subprocess.run(
        ["ssh-keygen", "-y", "-f", make_key(tmp_path / "bad")], capture_output=True, check=True
    ).stdout.split()[1]
    good = client_key.with_suffix(".pub").read_text().split()[1]
    with UnwillingAgent(tmp_path / "agent", client_key, [bad.decode(), good]) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.path)
        config = SSHConfig(
            sshd.address, sshd.port, sshd.user, use_control_master=use_control_master
        )
        result = run_on(config)

    assert result.success, result
    assert agent.refused > 0


def test_agent_that_never_answers_is_left_out_in_process(
    sshd: Sshd, client_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    config = SSHConfig(sshd.address, sshd.port, sshd.user, connect_timeout=1)
    config.use_control_master = False
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "agent"))
        silent.listen()

        refused = run_on(config)
        (folder / "id_ed25519").symlink_to(client_key)
        config.connect_timeout = 3
        result = run_on(config)

    assert f"the agent at {tmp_path}/agent does not answer: try 'ssh-add -l'" in str(refused.error)
    assert result.success, result


def test_too_many_offered_keys_are_reported_with_the_setting_to_change(
    make_sshd: MakeSshd,
    agent: Callable[[Path], None],
    tmp_path: Path,
    use_control_master: bool,
) -> None:
    server = make_sshd(config=["MaxAuthTries 2"])
    for number in range(4):
        agent(make_key(tmp_path / f"key{number}"))
    config = SSHConfig(server.address, server.port, server.user)
    config.use_control_master = use_control_master

    result = run_on(config)

    assert result.returncode == 255
    assert "Too many authentication failures" in str(result.error)
    assert "too many keys were offered: set ssh_key, or IdentitiesOnly" in str(result.error)


def test_only_key_that_is_refused_is_not_called_one_of_too_many(
    make_sshd: MakeSshd, tmp_path: Path, use_control_master: bool
) -> None:
    server, key = make_sshd(config=["MaxAuthTries 1"]), make_key(tmp_path / "key")
    config = SSHConfig(server.address, server.port, server.user, str(key))
    config.use_control_master = use_control_master

    result = run_on(config)

    assert "Too many authentication failures" in str(result.error)
    assert "it refused the only key that was offered" in str(result.error)


def test_only_the_named_key_is_offered(
    make_sshd: MakeSshd,
    agent: Callable[[Path], None],
    client_key: Path,
    tmp_path: Path,
    use_control_master: bool,
) -> None:
    server = make_sshd(config=["MaxAuthTries 2"])
    for number in range(4):
        agent(make_key(tmp_path / f"key{number}"))
    config = SSHConfig(server.address, server.port, server.user, str(client_key))
    config.use_control_master = use_control_master

    assert run_on(config).success


def test_named_key_is_offered_to_openssh_before_none(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path
) -> None:
    server = make_sshd(
        overrides=["LogLevel DEBUG1", "MaxAuthTries 2", "PasswordAuthentication yes"]
    )
    config = SSHConfig(server.address, server.port, server.user, str(client_key))
    config.use_control_master = False

    assert run_on(config).success
    assert "method none" not in server.log

    config.key_path = str(make_key(tmp_path / "other"))
    error = str(run_on(config).error)

    assert "method none" in server.log  # an account without a password would be let in
    assert "1 key offered, none accepted" in error
    assert "Too many" not in error


@pytest.fixture
def with_password(other_users: tuple[str, str]) -> Iterator[Callable[[str], str]]:
    """Call it with the hash of a password; it returns a user who has it."""

    def set_password(hashed: str) -> str:
        subprocess.run(["usermod", "-p", hashed, other_users[0]], check=True)
        return other_users[0]

    yield set_password
    set_password("*")


def test_account_without_a_password_is_logged_in_to_after_a_refused_key(
    make_sshd: MakeSshd, tmp_path: Path, with_password: Callable[[str], str]
) -> None:
    user, key = with_password(""), str(make_key(tmp_path / "key"))
    lines = ["PasswordAuthentication yes", "PermitEmptyPasswords yes", "AuthenticationMethods none"]
    for overrides in lines[:2], lines:
        server = make_sshd(overrides=overrides)
        config = SSHConfig(server.address, server.port, user, key)
        config.use_control_master = False

        assert run_on(config).stdout == "in\n", overrides


def test_refused_key_is_not_added_to_the_agent_after_a_log_in_by_password(
    make_sshd: MakeSshd,
    agent: Callable[[Path], None],
    tmp_path: Path,
    with_password: Callable[[str], str],
) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text("AddKeysToAgent yes\n")
    hashed = subprocess.check_output(["openssl", "passwd", "-6", "secret"], text=True).strip()
    server = make_sshd(overrides=["PasswordAuthentication yes"])
    login = {"key_filename": str(make_key(tmp_path / "key")), "password": "secret"}
    place = {"user": with_password(hashed), "port": server.port, "connect_kwargs": login}

    with Connection(server.address, **place) as connection:  # type: ignore[arg-type]  # mixed values
        connection.open()

    listed = subprocess.run(["ssh-add", "-l"], capture_output=True, text=True)
    assert "no identities" in listed.stdout


def test_key_of_the_inventory_is_added_to_the_agent(
    sshd: Sshd, agent: Callable[[Path], None], client_key: Path
) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text("AddKeysToAgent yes\n")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key))
    config.use_control_master = False

    assert run_on(config).success
    listed = subprocess.run(["ssh-add", "-L"], capture_output=True, text=True)
    assert client_key.with_suffix(".pub").read_text().split()[1] in listed.stdout


@pytest.mark.parametrize(
    "line",
    [
        "PubkeyAcceptedAlgorithms rsa-sha2-256",
        "PubkeyAuthentication no",
        "PreferredAuthentications password",
    ],
)
def test_setting_that_keeps_a_key_from_being_offered_is_named(
    line: str, sshd: Sshd, client_key: Path
) -> None:
    path = Path.home() / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    path.write_text(f"{line}\n")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key))
    config.use_control_master = False

    error = str(run_on(config).error)

    assert "no key was offered; " in error
    assert line.split()[0] in error
    if line.split()[0] != "PubkeyAcceptedAlgorithms":
        config.use_control_master = True
        assert line.split()[0] in str(run_on(config).error)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("HostbasedAuthentication yes\nAuthenticationMethods hostbased", "it needs hostbased"),
        ("PubkeyAuthentication no", "it allows no method"),
    ],
)
def test_method_that_nobody_can_answer_is_not_answered_in_a_shell(
    make_sshd: MakeSshd, use_control_master: bool, lines: str, expected: str
) -> None:
    server = make_sshd(overrides=lines.splitlines())
    config = SSHConfig(server.address, server.port, server.user)
    config.use_control_master = use_control_master

    error = str(run_on(config).error)

    assert f"{expected}; allow publickey on the host" in error


def test_named_encrypted_key_is_used_from_the_agent(
    make_sshd: MakeSshd,
    agent: Callable[[Path], None],
    tmp_path: Path,
    use_control_master: bool,
) -> None:
    key = make_key(tmp_path / "key")
    server = make_sshd(key)
    agent(make_key(tmp_path / "other"))
    agent(key)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key], check=True)
    config = SSHConfig(server.address, server.port, server.user, str(key))
    config.use_control_master = use_control_master

    assert run_on(config).success


def test_public_key_beside_a_missing_file_names_a_key_of_the_agent(
    sshd: Sshd, agent: Callable[[Path], None], client_key: Path, use_control_master: bool
) -> None:
    agent(client_key)
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "box.pub").write_bytes(client_key.with_suffix(".pub").read_bytes())
    (folder / "config").write_text("IdentityFile ~/.ssh/box\nIdentitiesOnly yes\n")
    config = SSHConfig(sshd.address, sshd.port, sshd.user)
    config.use_control_master = use_control_master

    assert run_on(config).success


CODE = {b"Verification code:": f"{LogInServer.code}\n".encode()}


def test_shell_task_prompts_at_its_terminal_and_its_master_is_shared(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    with LogInServer("code") as server:
        write_hosts(box={"ssh_port": server.port, "ssh_key": None, "use_control_master": True})

        typed = {**CODE, b"ready": b"exit 7\n"}
        status, shown = at_terminal(["shell", "--host", "box"], typed, tmp_path)
        second = inv("run", "--host", "box", "--cmd", "echo second")

        assert (status, second.stdout) == (7, b"second\n"), (shown, second)
        assert server.code.encode() not in shown
        assert server.log_ins == 1


def test_command_at_a_terminal_prompts_for_its_login(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path, use_control_master: bool
) -> None:
    with LogInServer("code") as server:
        write_hosts(
            box={
                "ssh_port": server.port,
                "ssh_key": None,
                "use_control_master": use_control_master,
            }
        )

        run = ["run", "--pty", "--host", "box", "--cmd", "echo a; exit 7"]
        status, shown = at_terminal(run, CODE, tmp_path)

    assert (status, server.code.encode() in shown) == (7, False), shown
