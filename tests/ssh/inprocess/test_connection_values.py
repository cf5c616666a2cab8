"""The user, port and limits of a Connection: which level names them, over both kinds of link."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabric
import paramiko
import pytest
import yaml

from ringtasks import Connection, SSHConfig
from ringtasks.errors import UnreachableError
from tests.support.faulty import Silent
from tests.support.sshd import Sshd

#: The levels that may name the user, the strongest first: as Fabric documents for Connection, with
#: the inventory beside the arguments.
LEVELS = (
    "argument",
    "user@host",
    "SSHConfig",
    "inventory",
    "ssh_config Host",
    "ssh_config Match",
    "Config override",
    "project fabric.yaml",
    "~/.fabric.yaml",
    "/etc/fabric.yaml",
)
_EXCLUSIVE = {"argument", "user@host", "SSHConfig", "inventory"}


class Levels:
    """Writes the user's name where a level reads it."""

    def __init__(
        self, folder: Path, sshd: Sshd, key: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._folder, self._sshd, self._key = folder, sshd, key
        self._patch = monkeypatch
        self.host: Any = sshd.address
        self._arguments: dict[str, Any] = {"port": sshd.port}
        self._config: dict[str, Any] = {}
        self._ssh_config = f"Host *\n  IdentityFile {key}\n"
        self._inventory = folder / "hosts.yaml"

    def set(self, level: str, user: str) -> None:
        {
            "argument": lambda: self._arguments.update(user=user),
            "user@host": lambda: setattr(self, "host", f"{user}@{self._sshd.address}"),
            "SSHConfig": lambda: self._set_config_object(user),
            "inventory": lambda: self._write_inventory(user),
            "ssh_config Host": lambda: self._add_ssh_config(f"Host *\n  User {user}\n"),
            "ssh_config Match": lambda: self._add_ssh_config(
                f"Match host {self._sshd.address}\n  User {user}\n"
            ),
            "Config override": lambda: self._config.update(overrides={"user": user}),
            "project fabric.yaml": lambda: self._write_yaml("project", "fabric", user),
            "~/.fabric.yaml": lambda: self._write_yaml("", "own-home/.fabric", user),
            "/etc/fabric.yaml": lambda: self._write_yaml("", "etc-fabric", user),
        }[level]()

    def connection(self) -> Connection:
        config = fabric.Config(**self._config, system_prefix=f"{self._folder}/etc-")
        config.set_project_location(str(self._folder / "project"))
        config.load_project()
        if isinstance(self.host, str) and not self._inventory.exists():
            self._write_inventory(None)  # which names the key
        return Connection(self.host, config=config, **self._arguments)

    def _set_config_object(self, user: str) -> None:
        self.host = SSHConfig(self._sshd.address, self._sshd.port, user, str(self._key))
        self._arguments = {}

    def _write_inventory(self, user: str | None) -> None:
        fields = {
            "ssh_host": self._sshd.address, "ssh_port": self._sshd.port, "ssh_key": str(self._key),
        }  # fmt: skip
        named = {"ssh_user": user} if user else {}
        self._inventory.write_text(yaml.safe_dump({"hosts": {"box": {**fields, **named}}}))
        self._patch.setenv("RINGTASKS_HOSTS", str(self._inventory))
        if "@" not in self.host:
            self.host = "box"

    def _add_ssh_config(self, text: str) -> None:
        self._ssh_config = text + self._ssh_config  # the first value counts (ssh_config(5))
        path = self._folder / "own-home" / ".ssh" / "config"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(self._ssh_config)

    def _write_yaml(self, folder: str, name: str, user: str) -> None:
        path = self._folder / folder / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"user": user}))


@pytest.mark.parametrize("level", LEVELS)
def test_user_of_the_highest_precedence_runs_the_command(
    level: str,
    use_control_master: bool,
    other_users: tuple[str, str],
    tmp_path: Path,
    sshd: Sshd,
    client_key: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted, weaker = other_users
    levels = Levels(tmp_path, sshd, client_key, monkeypatch)
    for other in LEVELS[LEVELS.index(level) + 1 :]:
        if other not in _EXCLUSIVE:
            levels.set(other, weaker)
    levels.set(level, wanted)

    with levels.connection() as connection:
        if not use_control_master:
            connection.keep_in_process()
        assert connection.run("id -un", hide=True).stdout.strip() == wanted
        assert connection.user == wanted
        is_in_process = isinstance(connection.transport, paramiko.Transport)
        assert is_in_process is not use_control_master


@pytest.fixture
def keep_kind(use_control_master: bool) -> Callable[[Connection], Connection]:
    """Keeps a connection in process, if that is the kind of link to be tried."""

    def keep(connection: Connection) -> Connection:
        if not use_control_master:
            connection.keep_in_process()
        return connection

    return keep


Keep = Callable[[Connection], Connection]


def greets(connection: Connection) -> bool:
    with connection:
        return bool(connection.run("echo hi", hide=True).stdout == "hi\n")


def is_in_process(connection: Connection) -> bool:
    connection.open()
    return isinstance(connection.transport, paramiko.Transport)


def write_user_config(text: str) -> Path:
    path = Path.home() / ".ssh" / "config"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(text)
    return path


def nickname(sshd: Sshd, key: Path, *more: str) -> str:
    lines = [f"HostName {sshd.address}", f"Port {sshd.port}", f"IdentityFile {key}", *more]
    return "Host nickname\n" + "".join(f"  {line}\n" for line in lines)


@pytest.mark.parametrize("level", ["argument", "host:port", "ssh_config", "Config override"])
def test_port_of_the_highest_precedence_is_used(
    level: str, keep_kind: Keep, sshd: Sshd, client_key: Path
) -> None:
    levels = ["argument", "host:port", "ssh_config", "Config override"]
    weaker = levels[levels.index(level) + 1 :]
    ports = {level: sshd.port, **dict.fromkeys(weaker, 9)}
    configured = f"  Port {ports['ssh_config']}\n" if "ssh_config" in ports else ""
    write_user_config(f"Host *\n  IdentityFile {client_key}\n{configured}")
    overrides = {"port": ports["Config override"]} if "Config override" in ports else {}
    host = f"{sshd.address}:{sshd.port}" if level == "host:port" else sshd.address
    own = {"port": sshd.port} if level == "argument" else {}

    connection = Connection(host, config=fabric.Config(overrides=overrides), **own)

    assert greets(keep_kind(connection))


@pytest.mark.parametrize("way", ["runtime_ssh_path", "ssh_config_path", "set_runtime_ssh_path"])
def test_another_ssh_config_is_read_instead_of_the_users(
    way: str,
    keep_kind: Keep,
    use_control_master: bool,
    sshd: Sshd,
    client_key: Path,
    tmp_path: Path,
) -> None:
    write_user_config("Host *\n  User nobody-of-that-name\n  Port 9\n")
    own = tmp_path / "own config"
    own.write_text(nickname(sshd, client_key))
    if way == "runtime_ssh_path":
        config = fabric.Config(runtime_ssh_path=str(own))
    elif way == "ssh_config_path":
        config = fabric.Config(overrides={"ssh_config_path": str(own)})
    else:
        config = fabric.Config(lazy=True)
        config.set_runtime_ssh_path(str(own))
        config.load_ssh_config()
    connection = keep_kind(Connection("nickname", config=config))

    with connection:
        assert is_in_process(connection) is not use_control_master
        assert connection.run("echo hi", hide=True).stdout == "hi\n"


def test_no_ssh_config_is_read_if_the_configuration_says_so(
    keep_kind: Keep, use_control_master: bool, sshd: Sshd, client_key: Path
) -> None:
    write_user_config("Host *\n  User nobody-of-that-name\n  Port 9\n")
    config = fabric.Config(overrides={"load_ssh_configs": False})
    host = SSHConfig(sshd.address, sshd.port, key_path=str(client_key))
    connection = keep_kind(Connection(host, config=config))

    with connection:
        assert is_in_process(connection) is not use_control_master
        assert connection.run("echo hi", hide=True).stdout == "hi\n"


def test_an_ssh_config_object_is_used_in_process(sshd: Sshd, client_key: Path) -> None:
    given = paramiko.SSHConfig.from_text(nickname(sshd, client_key))
    connection = Connection("nickname", config=fabric.Config(ssh_config=given))

    with connection:
        assert is_in_process(connection)
        assert connection.run("echo hi", hide=True).stdout == "hi\n"


def test_identity_file_in_ssh_config_still_allows_a_control_master(
    sshd: Sshd, client_key: Path
) -> None:
    write_user_config(nickname(sshd, client_key))
    connection = Connection("nickname")

    with connection:
        assert not is_in_process(connection)
        assert connection.connect_kwargs["key_filename"] == [str(client_key)]


def test_a_jump_host_is_looked_up_in_the_callers_ssh_config(
    sshd: Sshd, client_key: Path, tmp_path: Path, make_sshd: Callable[..., Sshd]
) -> None:
    bastion = make_sshd()
    own = tmp_path / "config"
    own.write_text(
        nickname(sshd, client_key, "ProxyJump bastion")
        + f"Host bastion\n  HostName {bastion.address}\n  Port {bastion.port}\n"
        f"  IdentityFile {client_key}\n"
    )

    assert greets(Connection("nickname", config=fabric.Config(runtime_ssh_path=str(own))))
    assert bastion.accepted_logins() == 1


def test_jump_host_connected_via_a_control_master_can_be_a_gateway(
    sshd: Sshd, client_key: Path, make_sshd: Callable[..., Sshd]
) -> None:
    bastion = make_sshd()
    gateway = Connection(SSHConfig(bastion.address, bastion.port, key_path=str(client_key)))
    with gateway:
        assert gateway.run("echo hi", hide=True).stdout == "hi\n"
        inner = SSHConfig(sshd.address, sshd.port, key_path=str(client_key))

        assert greets(Connection(inner, gateway=gateway))
    assert bastion.accepted_logins() == 2


@pytest.mark.parametrize("place", ["argument", "configuration", "ssh_config"])
def test_fabric_connection_uses_a_proxy_command(
    place: str, sshd: Sshd, client_key: Path, tmp_path: Path
) -> None:
    proxy = tmp_path / "proxy"
    proxy.write_text(RELAY)
    command = f"{sys.executable} {proxy} %h %p; echo of a shell"
    write_user_config(
        nickname(sshd, client_key, *([f"ProxyCommand {command}"] if place == "ssh_config" else []))
    )
    config = fabric.Config(overrides={"gateway": command} if place == "configuration" else {})
    own = {"gateway": command} if place == "argument" else {}

    began = time.monotonic()
    assert greets(Connection("nickname", config=config, **own))
    assert time.monotonic() - began < 8
    assert (tmp_path / "proxy.used").read_text() == f"{sshd.address} {sshd.port}"


@pytest.mark.parametrize(("stream", "told"), [("2", ": nobody"), ("1", "to stdout: nobody")])
def test_failed_proxy_command_is_reported_with_its_output(
    sshd: Sshd, stream: str, told: str
) -> None:
    with pytest.raises(UnreachableError, match=f"{told} home"):
        Connection(sshd.address, gateway=f"echo nobody home >&{stream}; exit 1").open()


@pytest.mark.parametrize("level", ["Config override", "ssh_config"])
def test_configured_connect_timeout_applies(level: str, keep_kind: Keep, client_key: Path) -> None:
    settings = fabric.Config(overrides={"timeouts": {"connect": 1}})
    if level == "ssh_config":
        write_user_config("Host *\n  ConnectTimeout 1\n")
        settings = fabric.Config()
    with Silent() as silent:
        connection = Connection(f"{silent.address}:{silent.port}", config=settings)
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            keep_kind(connection).open()

        assert connection.connect_timeout == 1
        assert time.monotonic() - began < 8


RELAY = """
import pathlib, socket, sys, threading
pathlib.Path(__file__ + ".used").write_text(" ".join(sys.argv[1:]))
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while chunk := sock.recv(65536):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
threading.Thread(target=back, daemon=True).start()
while chunk := sys.stdin.buffer.read1(65536):
    sock.sendall(chunk)
"""
