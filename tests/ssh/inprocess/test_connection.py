"""`Connection` is a ``fabric.Connection``: what works there works here, by any route."""

from __future__ import annotations

import io
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import fabric
import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_EOF

from ringtasks import Connection, SSHConfig
from ringtasks.errors import OutcomeUnknownError, Reason, UnreachableError, UsageError
from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.store import HealthStore
from ringtasks.ssh.host_keys import HostKey
from ringtasks.ssh.pins import KnownHosts
from tests.support.agents import Agent
from tests.support.faulty import Blackhole, Refusing, Silent, Socks5, Wire
from tests.support.fixtures import MakeSshd, WriteHosts, use_control_master
from tests.support.sshd import Sshd, make_key

over_master = use_control_master  # each test runs over both kinds of link


@pytest.fixture
def config(config: SSHConfig) -> SSHConfig:
    """A host whose first route is dead."""
    return replace(config, tailscale_ip="127.0.0.1", tailscale_port=9)


def test_connection_is_a_fabric_connection_and_uses_a_working_route(config: SSHConfig) -> None:
    with Connection(config) as connection:
        result = connection.run("echo hi; echo no >&2; exit 3", hide=True, warn=True)

    assert isinstance(connection, fabric.Connection)
    assert (result.stdout, result.stderr, result.exited) == ("hi\n", "no\n", 3)
    assert connection.transport_used == "direct"


def test_connection_that_is_not_opened_leaves_the_next_try_of_a_route_to_others(
    config: SSHConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = RouteOutcome("tailscale", success=False, reason="refused")
    earlier = time.time() - 3600
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: earlier)
        HealthStore().record([HostOutcome(config.id, success=False, routes=(failure,))])

    Connection(config)

    assert HealthStore().claim_probe(config.id, "tailscale", time.time())


def test_environment_arrives_unchanged_and_is_not_in_the_process_list(
    config: SSHConfig,
) -> None:
    value = 'it\'s "$HOME"\n `x`'
    with Connection(config) as connection:
        result = connection.run(
            'printf %s "$V"; cat /proc/[0-9]*/cmdline >&2 || :', env={"V": value}, hide=True
        )

    assert result.stdout == value
    assert "`x`" not in result.stderr


def test_environment_reaches_a_command_with_a_terminal(config: SSHConfig) -> None:
    with Connection(config) as connection:
        result = connection.run('tty; echo "$V"', env={"V": "a 'b'"}, pty=True, hide=True)

    assert result.stdout.splitlines()[0].startswith("/dev/")
    assert result.stdout.splitlines()[1] == "a 'b'"


def test_stdin_reaches_the_command_after_the_environment(config: SSHConfig) -> None:
    with Connection(config) as connection:
        result = connection.run(
            'read line; echo "$V $line"',
            env={"V": "1"},
            in_stream=io.StringIO("typed\n"),
            hide=True,
        )

    assert result.stdout == "1 typed\n"


def test_connection_copies_files_to_the_host_and_back(
    config: SSHConfig, tmp_path: Path, sshd: Sshd
) -> None:
    sent, returned = tmp_path / "sent", tmp_path / "returned"
    sent.write_bytes(os.urandom(300_000))

    with Connection(config) as connection:
        connection.put(str(sent), str(sshd.home / "there"))
        connection.get(str(sshd.home / "there"), str(returned))

    assert returned.read_bytes() == sent.read_bytes()


def test_a_local_port_is_forwarded(config: SSHConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as far:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            near_port = probe.getsockname()[1]
        with (
            Connection(config) as connection,
            connection.forward_local(near_port, far.getsockname()[1], "127.0.0.1", "127.0.0.1"),
            connected_when_listening(near_port) as client,
        ):
            client.sendall(b"ping")
            far.settimeout(5)
            arrived, _ = far.accept()
            with arrived:
                arrived.settimeout(5)
                assert arrived.recv(4) == b"ping"


@pytest.mark.parametrize("local_host", ["127.0.0.1", "127.1"])
def test_local_port_in_use_is_reported_at_once(config: SSHConfig, local_host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, Connection(config) as connection:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"{local_host} port {port}: Address already in use"),
            connection.forward_local(port, 9, local_host=local_host),
        ):
            pytest.fail("somebody else has the port")


def test_sudo_runs_the_command_that_fabric_composes(config: SSHConfig) -> None:
    with Connection(config) as connection:
        result = connection.sudo("true", hide=True, warn=True)

    # Whether there is a sudo or not, it is the host that says so.
    assert result.command.startswith("sudo -S -p")
    assert result.exited is not None


def test_a_shell_runs_until_it_exits(config: SSHConfig) -> None:
    with Connection(config) as connection:
        result = connection.shell(
            in_stream=io.StringIO("echo got-$((40 + 2)); exit\n"), encoding="utf-8"
        )

    assert "got-42" in result.stdout
    assert result.exited == 0


def test_variables_of_a_shell_and_of_a_session_reach_the_host(
    config: SSHConfig, make_sshd: MakeSshd
) -> None:
    server = make_sshd(config=["AcceptEnv COLOUR"])
    with Connection(replace(config, port=server.port, name="coloured")) as connection:
        told = io.StringIO("echo got-$COLOUR; exit\n")
        shell = connection.shell(in_stream=told, env={"COLOUR": "blue"})
        session = connection.create_session()
        session.set_environment_variable("COLOUR", "red")
        session.exec_command("echo $COLOUR; cat")
        session.close()
        with pytest.raises(OSError, match="closed") as refused:
            session.sendall(b"more")

    assert "got-blue" in shell.stdout
    assert type(refused.value) is OSError


def test_connection_resolves_an_inventory_name(
    write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_HOSTS", str(write_hosts(box={"tailscale_ip": None})))

    with Connection("box") as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"
    assert HealthStore().get("box").total_successes == 1


def test_error_lists_every_failed_route(config: SSHConfig) -> None:
    with Silent() as silent, pytest.raises(UnreachableError) as caught:
        dead = replace(config, host=silent.address, port=silent.port, connect_timeout=1)
        Connection(dead).open()

    reasons = [(failure.route, failure.reason) for failure in caught.value.failures]
    assert reasons == [("tailscale", Reason.REFUSED), ("direct", Reason.SILENT)]
    assert HealthStore().get("box").total_failures == 1


def test_user_port_and_key_are_read_from_the_users_ssh_config(
    sshd: Sshd, client_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ssh_config(
        f"Host nickname\n  HostName {sshd.address}\n  Port {sshd.port}\n"
        f"  User {sshd.user}\n  IdentityFile {client_key}\n"
    )

    with Connection("nickname") as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"


def test_inventory_settings_override_the_users_ssh_config(sshd: Sshd, client_key: Path) -> None:
    write_ssh_config(f"Host {sshd.address}\n  Port 1\n  User nobody-at-all\n")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key))

    with Connection(config) as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"


def test_a_proxy_jump_of_the_users_ssh_config_is_used(
    make_sshd: MakeSshd, sshd: Sshd, client_key: Path
) -> None:
    bastion = make_sshd()
    write_ssh_config(
        f"Host inner\n  HostName {sshd.address}\n  Port {sshd.port}\n"
        f"  ProxyJump {bastion.user}@{bastion.address}:{bastion.port}\n"
        f"Host *\n  IdentityFile {client_key}\n"
    )

    with Connection("inner") as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"
    assert bastion.accepted_logins() == 1


def test_host_key_of_a_jump_host_is_checked(
    make_sshd: MakeSshd, sshd: Sshd, client_key: Path
) -> None:
    bastion = make_sshd()
    at = f"[{bastion.address}]:{bastion.port}"
    KnownHosts().pin(SSHConfig(bastion.address, bastion.port), HostKey.parse(sshd.host_public_key))
    write_ssh_config(
        f"Host inner\n  HostName {sshd.address}\n  Port {sshd.port}\n"
        f"  ProxyJump {bastion.user}@{bastion.address}:{bastion.port}\n"
        f"Host *\n  IdentityFile {client_key}\n"
    )

    with pytest.raises(UnreachableError) as caught:
        Connection("inner").open()

    assert f"{at}: unreachable" in str(caught.value)
    assert "host key changed: got" in str(caught.value)


def test_a_jump_host_of_the_inventory_is_used_for_the_direct_route(
    make_sshd: MakeSshd, write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    bastion = make_sshd()
    hosts = write_hosts(
        bastion={"ssh_host": bastion.address, "ssh_port": bastion.port},
        box={"proxy_jump": "bastion"},
    )
    monkeypatch.setenv("RINGTASKS_HOSTS", str(hosts))

    with Connection("box") as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"
    assert bastion.accepted_logins() == 1


def test_dead_jump_host_is_reported_by_name(
    write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Refusing() as dead:
        hosts = write_hosts(
            bastion={"ssh_host": dead.address, "ssh_port": dead.port}, box={"proxy_jump": "bastion"}
        )
        monkeypatch.setenv("RINGTASKS_HOSTS", str(hosts))
        with pytest.raises(UnreachableError) as caught:
            Connection("box").open()

    (failure,) = caught.value.failures
    assert (failure.route, failure.reason) == ("direct", Reason.JUMP_FAILED)
    assert "bastion: unreachable" in failure.evidence


@pytest.mark.parametrize("kind", [Connection, fabric.Connection])
@pytest.mark.parametrize("silence", [Silent, Blackhole])
def test_silent_jump_host_is_named_within_the_time_limit_of_the_host(
    config: SSHConfig, kind: type[fabric.Connection], silence: type[Silent] | type[Blackhole]
) -> None:
    with silence() as silent:
        jump = kind(f"someone@{silent.address}:{silent.port}")
        started = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            Connection(config, gateway=jump, connect_timeout=0.9, transport="direct").open()

    assert time.monotonic() - started < 8  # not the usual 10 s
    (failure,) = caught.value.failures
    assert (failure.route, failure.reason) == ("direct", Reason.JUMP_FAILED)
    assert silent.address in failure.evidence


def test_tailscale_route_uses_a_socks_proxy_inside_a_container(
    config: SSHConfig, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_tailnet = replace(config, tailscale_ip="127.0.0.3", tailscale_port=sshd.port, host="")
    with Socks5() as proxy:
        url = f"socks5://{proxy.address}:{proxy.port}"
        monkeypatch.setenv("RINGTASKS_TAILSCALE_PROXY", url)

        with Connection(in_tailnet) as connection:
            assert connection.run("echo hi", hide=True).stdout == "hi\n"
            assert connection.transport_used == "tailscale"
        assert proxy.connections == 1


def test_encrypted_key_is_accepted_with_its_passphrase(make_sshd: MakeSshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "locked", "-t", "ed25519", "-N", "open sesame")
    server = make_sshd(key)
    config = SSHConfig(server.address, server.port, server.user, str(key))

    with Connection(config, connect_kwargs={"passphrase": "open sesame"}) as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"
    with pytest.raises(UnreachableError) as caught:
        Connection(config).open()

    assert caught.value.failures[0].reason is Reason.AUTHENTICATION
    assert "encrypted" in str(caught.value)


def test_agent_key_is_accepted(
    make_sshd: MakeSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(tmp_path / "in-agent")
    server = make_sshd(key)
    with Agent(tmp_path / "agent") as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent.path)
        agent.add(key)
        key.unlink()

        with Connection(SSHConfig(server.address, server.port, server.user)) as connection:
            assert connection.run("echo hi", hide=True).stdout == "hi\n"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.matrix(1)
def test_key_in_the_environment_is_accepted_and_never_written_to_disk(
    make_sshd: MakeSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key = make_key(tmp_path / "ci-key", "-t", kind, "-N", "")
    server = make_sshd(key)
    text = key.read_text()
    monkeypatch.setenv("RINGTASKS_SSH_KEY", text)
    key.unlink()

    with Connection(SSHConfig(server.address, server.port, server.user)) as connection:
        assert connection.run("echo hi", hide=True).stdout == "hi\n"

    secret = text.splitlines()[2]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret in path.read_text(errors="replace") for path in written)


@pytest.mark.parametrize("text", ["no key at all", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_invalid_key_in_the_environment_is_refused_without_showing_it(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("RINGTASKS_SSH_KEY", text)

    with pytest.raises(UsageError, match="RINGTASKS_SSH_KEY: expected") as caught:
        Connection(SSHConfig(sshd.address, sshd.port))

    assert "AAAA" not in str(caught.value)


def test_missing_key_file_is_reported_before_connecting(sshd: Sshd) -> None:
    with pytest.raises(UsageError, match="ssh_key: no such file: /no/such/key"):
        Connection(SSHConfig(sshd.address, sshd.port, key_path="/no/such/key"))


def test_vanished_host_ends_a_fabric_run(make_sshd: MakeSshd, client_key: Path) -> None:
    server = make_sshd()
    with Wire(server.address, server.port) as wire:
        config = SSHConfig(
            wire.address, wire.port, server.user, str(client_key),
            server_alive_interval=1, server_alive_count_max=2,
        )  # fmt: skip
        connection = Connection(config)
        connection.open()
        running = connection.run("sleep 60", hide=True, warn=True, asynchronous=True)
        wire.freeze()

        with pytest.raises(OutcomeUnknownError):
            running.join()
        wire.thaw()

    assert not connection.is_connected


def connected_when_listening(port: int) -> socket.socket:
    """Fabric's forwarding starts in a thread, and does not say when it listens."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def write_ssh_config(text: str) -> None:
    path = Path.home() / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    path.write_text(text)


def test_message_for_a_closed_channel_does_not_end_the_connection(
    sshd: Sshd, client_key: Path
) -> None:
    config = SSHConfig(
        sshd.address, sshd.port, sshd.user, str(client_key), use_control_master=False
    )
    with Connection(config) as connection:
        channel = connection.create_session()
        channel.exec_command("true")
        assert channel.recv(1) == b""
        assert closes_soon(channel)
        late = paramiko.Message()
        late.add_byte(cMSG_CHANNEL_EOF)  # made before the host closed, sent after
        late.add_int(channel.remote_chanid)

        channel.transport._send_user_message(late)

        assert connection.run("echo still here", hide=True).stdout == "still here\n"


def closes_soon(channel: paramiko.Channel) -> bool:
    deadline = time.monotonic() + 5
    while not channel.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    return channel.closed
