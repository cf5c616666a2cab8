"""A Connection behaves as in Fabric, beside running commands."""

from __future__ import annotations

import copy
import pickle
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabric
import paramiko
import pytest
from fabric.testing.base import Command, MockRemote, Session
from paramiko.ssh_exception import IncompatiblePeer, NoValidConnectionsError

from ringtasks import Connection, SSHConfig
from ringtasks.errors import UnreachableError, UsageError
from ringtasks.ssh.host_keys import HostKey
from ringtasks.ssh.pins import KnownHosts
from ringtasks.testing import FakeFleet
from tests.support.faulty import Refusing, Silent, Wire
from tests.support.sshd import Sshd, make_key

MakeConfig = Callable[..., SSHConfig]
KEX = list(paramiko.Transport(socket.socket()).preferred_kex)


@pytest.fixture
def config(sshd: Sshd, client_key: Path, use_control_master: bool) -> SSHConfig:
    return SSHConfig(
        sshd.address, sshd.port, sshd.user, str(client_key), name="box",
        use_control_master=use_control_master,
    )  # fmt: skip


def changed(config: SSHConfig, **fields: Any) -> SSHConfig:
    return SSHConfig(**{**config.__dict__, **fields})


def test_refused_login_error_is_also_a_paramiko_error(config: SSHConfig, tmp_path: Path) -> None:
    stranger = changed(config, key_path=str(make_key(tmp_path / "stranger")))

    with pytest.raises(paramiko.AuthenticationException) as caught:
        Connection(stranger).open()

    assert isinstance(caught.value, UnreachableError)
    assert pickle.loads(pickle.dumps(caught.value)).failures[0].reason == "authentication refused"


def test_refused_connection_error_is_also_a_paramiko_error(config: SSHConfig) -> None:
    with Refusing() as refusing, pytest.raises(NoValidConnectionsError) as caught:
        Connection(changed(config, host=refusing.address, port=refusing.port)).open()

    assert list(caught.value.errors) == [(refusing.address, refusing.port)]
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), UnreachableError)


def test_error_of_a_jump_host_is_the_paramiko_error_of_its_own_failure(
    config: SSHConfig, tmp_path: Path
) -> None:
    stranger = Connection(changed(config, key_path=str(make_key(tmp_path / "stranger"))))
    with Refusing() as refusing, pytest.raises(NoValidConnectionsError, match="jump host failed"):
        dead = Connection(changed(config, host=refusing.address, port=refusing.port))
        Connection(config, gateway=dead).open()
    with pytest.raises(paramiko.AuthenticationException, match="jump host failed"):
        Connection(config, gateway=stranger).open()


#: The type of Paramiko, the arguments that provoke it, and a part of the text.
NARROWER: list[tuple[type[Exception], dict[str, Any], str]] = [
    (paramiko.PasswordRequiredException, {"key_filename": "LOCKED"}, "is encrypted"),
    (paramiko.BadAuthenticationType, {"password": "x"}, "the host takes no passwords"),
    (IncompatiblePeer, {"disabled_algorithms": {"kex": KEX}}, "no acceptable kex"),
    (paramiko.ProxyCommandFailure, {"gateway": "exit 3"}, "proxy failed"),
    (paramiko.ChannelException, {"gateway": "BASTION"}, "jump host failed"),
]


@pytest.mark.parametrize(("kind", "given", "told"), NARROWER)
def test_error_has_the_narrower_type_that_paramiko_has_for_it(
    config: SSHConfig, kind: type[Exception], given: dict[str, Any], told: str, tmp_path: Path
) -> None:
    options = dict(given)
    gateway = options.pop("gateway", None)
    if gateway == "BASTION":
        gateway, config = Connection(config), changed(config, host="127.0.0.1", port=1)
    if "key_filename" in options:
        options["key_filename"] = str(make_key(tmp_path / "locked", "-t", "ed25519", "-N", "words"))
    if "disabled_algorithms" not in options:
        config = changed(config, key_path=None)
    kwargs = {"look_for_keys": False, "allow_agent": False, **options}

    with pytest.raises(kind, match=told) as caught:
        Connection(config, gateway=gateway, connect_kwargs=kwargs).open()

    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)
    if isinstance(caught.value, paramiko.BadAuthenticationType):
        assert caught.value.allowed_types == ["publickey"]
    if isinstance(caught.value, paramiko.ChannelException | paramiko.ProxyCommandFailure):
        assert told in getattr(caught.value, "text", "") + getattr(caught.value, "error", "")


def test_refused_password_is_told(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd(overrides=["PasswordAuthentication yes"])
    kwargs = {"password": "x", "look_for_keys": False, "allow_agent": False}
    config = SSHConfig(server.address, server.port, server.user)

    with pytest.raises(paramiko.AuthenticationException, match="the password was refused") as told:
        Connection(config, connect_kwargs=kwargs).open()

    assert "check the user and the password" in str(told.value)
    assert not isinstance(told.value, paramiko.BadAuthenticationType)


def test_mistake_in_an_authentication_strategy_is_not_a_failure_of_the_host(
    config: SSHConfig,
) -> None:
    levels = {"authentication": {"strategy_class": lambda ssh_config: None}}

    with pytest.raises(TypeError, match="fabric_config"):
        Connection(config, config=fabric.Config(overrides=levels)).open()


def test_unknown_host_name_error_is_also_a_socket_error(config: SSHConfig) -> None:
    with pytest.raises(socket.gaierror):
        Connection(changed(config, host="no-such-host.invalid")).open()


def test_silent_server_error_is_also_a_paramiko_error(config: SSHConfig) -> None:
    with Silent() as silent, pytest.raises(paramiko.SSHException):
        Connection(
            changed(config, host=silent.address, port=silent.port), connect_timeout=0.5
        ).open()


def test_changed_host_key_error_is_also_a_paramiko_error(config: SSHConfig, make_sshd: Any) -> None:
    other = make_sshd()
    KnownHosts().pin(config, HostKey.parse(other.host_public_key))

    with pytest.raises(paramiko.BadHostKeyException) as caught:
        Connection(config).open()

    assert caught.value.hostname == "box"


def test_session_limit_of_the_host_raises_a_paramiko_error(
    config: SSHConfig, make_sshd: Callable[..., Sshd]
) -> None:
    server = make_sshd(config=["MaxSessions 0"])

    with (
        Connection(changed(config, port=server.port, connect_timeout=3)) as connection,
        pytest.raises(paramiko.ChannelException),
    ):
        connection.run("true", hide=True)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_copied_connection_works(config: SSHConfig, duplicate: Callable[[Any], Any]) -> None:
    twin = duplicate(Connection(config))

    with twin:
        assert twin.run("echo hi", hide=True).stdout == "hi\n"


def test_fabric_config_of_the_caller_is_not_changed(config: SSHConfig) -> None:
    settings = fabric.Config(overrides={"connect_kwargs": {"allow_agent": False}})
    before = copy.deepcopy(dict(settings))
    given = {"look_for_keys": False}

    with Connection(config, config=settings, connect_kwargs=given) as connection:
        connection.run("true", hide=True, env={"A": "1"})

    assert dict(settings) == before
    assert given == {"look_for_keys": False}
    assert settings.runners.remote is fabric.runners.Remote
    assert connection.config is settings


def test_jump_host_leaves_the_rules_in_the_fabric_config_of_the_caller_unchanged() -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text("Host box\n  ProxyJump other\n  IdentityFile ~/.ssh/key\n")
    settings = fabric.Config()
    before = settings.base_ssh_config.lookup("box")

    for _ in range(2):
        assert Connection("box", config=settings).gateway.host == "other"

    assert settings.base_ssh_config.lookup("box") == before


def test_custom_runner_class_runs_the_command(config: SSHConfig) -> None:
    class Own(fabric.runners.Remote):  # type: ignore[misc]
        def start(self, command: str, *args: Any, **kwargs: Any) -> None:
            super().start(f"echo own; {command}", *args, **kwargs)

    settings = fabric.Config(overrides={"runners": {"remote": Own}})
    with Connection(config, config=settings) as connection:
        assert connection.run("echo hi", hide=True).stdout == "own\nhi\n"


@pytest.mark.parametrize("given", [{"keyfile": "x"}, {"key_filenam": []}, {"pkey": "no key"}])
def test_invalid_connect_kwargs_raise_a_type_or_attribute_error(
    config: SSHConfig, given: dict[str, Any]
) -> None:
    with pytest.raises((TypeError, AttributeError)):
        Connection(config, connect_kwargs=given).open()


@pytest.mark.parametrize("name", ["hostname", "port", "username"])
def test_connect_kwargs_refuse_options_that_have_their_own_argument(
    config: SSHConfig, name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        Connection(config, connect_kwargs={name: "x"}).open()


def test_missing_named_key_file_is_reported(config: SSHConfig) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/key"):
        Connection(config, connect_kwargs={"key_filename": "/no/such/key"}).open()


def test_user_and_port_may_be_given_only_once() -> None:
    for arguments in ({"user": "bob"}, {"port": 22}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            Connection("alice@127.0.0.1:2222", **arguments)
    with pytest.raises(ValueError, match="port"):
        Connection("[::1]:22", port=22)


def test_an_explicit_port_22_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = fabric.Config(overrides={"port": 2222})

    assert Connection("127.0.0.1", config=settings).port == 2222
    assert Connection("127.0.0.1", port=22, config=settings).port == 22
    assert Connection("127.0.0.1:22", config=settings).port == 22


@pytest.mark.parametrize(("given", "used"), [("22", 22), ("2222", 2222), (0, 22)])
def test_port_may_be_a_text_or_0_as_in_fabric(given: Any, used: int) -> None:
    fabrics = fabric.Connection("127.0.0.1", port=given)

    assert Connection("127.0.0.1", port=given).port == used == int(fabrics.port)


@pytest.mark.parametrize("given", ["7", 7])
def test_connect_timeout_may_be_a_text_as_in_fabric(given: Any) -> None:
    assert Connection("127.0.0.1", connect_timeout=given).connect_timeout == 7


def test_port_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="port: expected a port from 1 to 65535, found 'ssh'"):
        Connection("127.0.0.1", port="ssh")  # type: ignore[arg-type]  # a mistake


def test_channel_of_the_sftp_client_leads_to_the_transport(config: SSHConfig) -> None:
    with Connection(config) as connection:
        channel = connection.sftp().get_channel()
        transport = channel.get_transport()

        assert (transport.is_active(), transport.is_authenticated()) == (True, True)
        assert transport.get_username() == config.user
        assert channel.getpeername() == (config.host, config.port)
        assert channel.fileno() > 0
        seen = bool(channel.active), bool(channel.eof_received), channel.exit_status_ready()
        assert seen == (True, False, False)
        with pytest.raises(AttributeError, match="no_method"):
            channel.no_method  # noqa: B018  # the attribute itself is looked up


def test_connect_kwargs_contain_the_key_file_of_the_host(
    config: SSHConfig, client_key: Path
) -> None:
    with Connection(config) as connection:
        connection.run("true", hide=True)

        assert connection.connect_kwargs["key_filename"] == [str(client_key)]


def test_values_changed_before_opening_are_used(config: SSHConfig) -> None:
    connection = Connection(changed(config, user="nobody-of-that-name"))
    connection.user = config.user

    with connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"


def test_a_local_port_listens_on_entry(config: SSHConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as far, Connection(config) as connection:
        connection.open()
        for _ in range(10):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            with connection.forward_local(port, far.getsockname()[1], "127.0.0.1"):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with (
            connection.forward_local(port, str(far.getsockname()[1]), "127.0.0.1"),  # type: ignore[arg-type]  # a text
            socket.create_connection(("127.0.0.1", port), timeout=5) as near,
        ):
            near.sendall(b"hi")
            while (stream := far.accept()[0]).recv(2) != b"hi":
                stream.close()  # of an earlier round


def test_connection_works_with_fabrics_mock_remote() -> None:
    with MockRemote() as remote:
        remote.expect_sessions(
            Session(
                "host", user="me", commands=[Command("whoami", out=b"me"), Command("false", exit=1)]
            )
        )
        connection = Connection("me@host")

        assert connection.run("whoami", hide=True, in_stream=False).stdout == "me"
        assert connection.run("false", hide=True, in_stream=False, warn=True).exited == 1


def test_connection_works_in_a_fake_fleet(ringtasks_fleet: FakeFleet) -> None:
    host = ringtasks_fleet.add("gpu1")
    host.on("nvidia-smi*", stdout="H100\n")
    host.on("false", returncode=1)

    with Connection("gpu1") as connection:
        assert connection.run("nvidia-smi -L", hide=True).stdout == "H100\n"
        assert connection.run("nvidia-smi", hide=True, env={"A": "1"}).stdout == "H100\n"
        assert connection.run("false", hide=True, warn=True, timeout=5).exited == 1

    assert host.commands == ["nvidia-smi -L", "nvidia-smi", "false"]
    assert host.calls[1].env == {"A": "1"}


def test_connection_copies_files_to_a_fake_host_and_back(
    ringtasks_fleet: FakeFleet, tmp_path: Path
) -> None:
    host = ringtasks_fleet.add("gpu1")
    (tmp_path / "sent").write_text("text")

    with Connection("gpu1") as connection:
        connection.put(str(tmp_path / "sent"), "there")
        connection.get("there", str(tmp_path / "back"))

    assert (tmp_path / "back").read_text() == "text"
    assert host.files["~/there"] == b"text"


def test_connection_to_a_host_outside_the_fake_fleet_is_unreachable(
    ringtasks_fleet: FakeFleet,
) -> None:
    with pytest.raises(UnreachableError, match="not in the fake fleet"):
        Connection("elsewhere").open()


def test_channels_of_the_transport_have_all_methods_of_paramikos(config: SSHConfig) -> None:
    with Connection(config) as connection:
        connection.open()
        channel = connection.transport.open_session(timeout=10)
        channel.set_combine_stderr(True)
        channel.exec_command("cat; echo err >&2")
        channel.makefile_stdin("wb").write(b"in ")
        channel.shutdown_write()
        assert channel.makefile().read() == b"in err\n"

        connection.transport.close()
        assert not connection.is_connected
        assert connection.run("echo again", hide=True).stdout == "again\n"


def test_missing_method_of_a_session_names_the_call_that_has_it(
    config: SSHConfig, use_control_master: bool
) -> None:
    with Connection(config) as connection:
        session = connection.create_session()
        if not use_control_master:
            assert session.fileno() >= 0
            return
        assert not hasattr(session, "fileno")
        with pytest.raises(AttributeError, match=r"no 'fileno'; .*transport.open_session"):
            session.fileno()
        with pytest.raises(AttributeError, match=r"no 'filen0'$"):
            _ = session.filen0


def test_settings_of_ssh_are_read_as_those_of_paramiko(config: SSHConfig) -> None:
    path = Path.home() / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    path.write_text("Host *\n  ServerAliveInterval 7\n  Compression yes\n")

    found = Connection(config).ssh_config

    assert found.as_int("serveraliveinterval") == 7
    assert found.as_bool("compression")


def test_user_of_none_is_the_local_user_and_an_empty_one_is_refused(config: SSHConfig) -> None:
    anyone = changed(config, user=None)
    with Connection(anyone, config=fabric.Config(overrides={"user": None})) as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"

    with pytest.raises(UsageError, match="user is empty"):
        Connection(anyone, config=fabric.Config(overrides={"user": ""}))


def test_time_limit_begins_when_the_connection_is_opened(sshd: Sshd, client_key: Path) -> None:
    with Wire(sshd.address, sshd.port, delay=0.06) as slow:  # ringtasks waits 0.05 s at least
        config = SSHConfig(slow.address, slow.port, sshd.user, str(client_key), name="box")
        connection = Connection(changed(config, use_control_master=False, connect_timeout=0.2))
        made = time.monotonic()
        while time.monotonic() < made + 0.2:  # it is the passing of time that matters
            time.sleep(0.05)
        connection.ssh = changed(connection.ssh, connect_timeout=20)

        with connection:
            assert connection.run("echo hi", hide=True).stdout == "hi\n"


def test_session_has_the_files_of_a_paramiko_channel(config: SSHConfig) -> None:
    with Connection(config) as connection:
        session = connection.create_session()
        session.settimeout(50)
        session.exec_command("read line; echo got $line; echo error >&2; exit 3")
        with session.makefile_stdin("wb") as stdin:
            stdin.write(b"text\n")

        output = [file.read() for file in (session.makefile(), session.makefile_stderr())]

        assert output == [b"got text\n", b"error\n"]
        assert session.recv_exit_status() == 3
        assert session.gettimeout() == 50
        assert not session.recv_ready()


def test_host_keys_that_the_caller_adds_to_the_client_count(
    config: SSHConfig, sshd: Sshd, tmp_path: Path
) -> None:
    known_hosts = tmp_path / "other_hosts"
    with Connection(config) as connection:
        connection.keep_in_process()
        name = f"[{sshd.address}]:{sshd.port}"
        other = Path(f"{make_key(tmp_path / 'other')}.pub").read_text()
        known_hosts.write_text(f"{name} {other}")
        connection.client.load_host_keys(str(known_hosts))

        assert list(connection.client.get_host_keys().lookup(name)) == ["ssh-ed25519"]
        assert connection.client.get_host_keys().lookup("another") is None
        with pytest.raises(paramiko.BadHostKeyException, match=r"host key: .*does not match"):
            connection.open()
