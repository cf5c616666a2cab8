"""A gateway that offers terminals only, or none, is named with what still works."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig, SSHResult
from ringtasks.client.refused_channel import NoChannelError
from ringtasks.client.shell import interact
from ringtasks.ssh.link import Terminal
from tests.support.faulty import Blackhole
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.log_in_server import LogInServer
from tests.support.sshd import Sshd

TERMINAL = Terminal("xterm", 80, 24)


#: Starts sshd with one more line in its configuration, and returns how to reach it.
ConfigWith = Callable[[str], SSHConfig]


@pytest.fixture
def config_with(make_sshd: MakeSshd, client_key: Path, use_control_master: bool) -> ConfigWith:
    def started(line: str) -> SSHConfig:
        server = make_sshd(config=[line])
        config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
        config.use_control_master = use_control_master
        return config

    return started


def run_on(config: SSHConfig, terminal: Terminal | None = None, timeout: float = 20) -> SSHResult:
    with SSHClient(config) as client:
        return client.run("echo in", timeout=timeout, terminal=terminal)


@pytest.mark.parametrize("refuses", ["exec", "piped"])
def test_gateway_without_an_exec_channel_is_reported(
    refuses: str, use_control_master: bool
) -> None:
    with LogInServer(refuses=refuses) as server:
        config = SSHConfig(server.address, server.port, "someone", name="box")
        config.use_control_master = use_control_master
        with SSHClient(config) as client:
            result = client.run("echo in", timeout=20)
            health = client.health

    assert (result.returncode, result.success) == (255, False)
    assert "exec channel" in str(result.error) or "closed the session without" in str(result.error)
    assert "'inv shell' may work" in str(result.error)
    assert "ssh_host" in str(result.error)
    assert result.elapsed_ms < 5000
    assert health.consecutive_failures == 0  # it was reached


def test_terminal_only_gateway_runs_a_command_with_a_terminal(use_control_master: bool) -> None:
    with LogInServer(refuses="piped") as server:
        config = SSHConfig(server.address, server.port, "someone", name="box")
        config.use_control_master = use_control_master
        result = run_on(config, TERMINAL)

    assert (result.stdout, result.error) == ("in\r\n", None)


def test_host_without_terminals_is_reported_with_advice(
    config_with: ConfigWith, tmp_path: Path
) -> None:
    config = config_with("PermitTTY no")
    trace = tmp_path / "ran"
    with SSHClient(config) as client:
        refused = client.run(f"touch {trace}", timeout=20, terminal=TERMINAL)
        plain = client.run("echo in", timeout=20)
        has_open_session = client.link().await_session_end(0.1)

    assert refused.returncode == 255
    assert "no terminal" in str(refused.error)
    assert "without --pty" in str(refused.error)
    assert not refused.is_unknown
    assert not trace.exists()
    assert (plain.stdout, plain.error) == ("in\n", None)
    assert not has_open_session


@pytest.mark.long  # a host may notice the end of a session late, so it is asked for 4 s
def test_host_that_opens_no_session_is_reported_with_advice(
    config_with: ConfigWith,
) -> None:
    config = config_with("MaxSessions 0")

    result = run_on(config)

    assert result.returncode == 255
    assert "the host offers no session: " in str(result.error)
    assert "name it as proxy_jump; else raise MaxSessions" in str(result.error)


@pytest.mark.parametrize(("refuses", "kind"), [("shell", "shell"), ("pty", "terminal")])
def test_refused_shell_is_not_a_lost_connection(
    refuses: str, kind: str, use_control_master: bool
) -> None:
    with LogInServer(refuses=refuses) as server:
        config = SSHConfig(server.address, server.port, "someone", name="box")
        config.use_control_master = use_control_master
        with SSHClient(config) as client, pytest.raises(NoChannelError, match=f"offers no {kind}"):
            interact(client.link(), "box", lambda _: None)


def test_gateway_that_ignores_the_command_is_abandoned(
    config_with: ConfigWith,
) -> None:
    config = config_with("ForceCommand printf 'gateway$ '; sleep 30")

    result = run_on(config, TERMINAL, timeout=60)

    assert result.returncode == 255
    assert "gateway$" in str(result.error)
    assert "'inv shell' works" in str(result.error)
    assert result.elapsed_ms < 20_000


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--cmd", "hostname"],
        ["check"],
        ["check", "--fresh"],
        ["put", "hosts", "~/there"],
        ["sync", "hosts", "~/there"],
        ["start", "--cmd", "true"],
    ],
    ids=" ".join,
)
def test_each_task_reports_a_gateway_without_an_exec_channel(
    inv: Inv, write_hosts: WriteHosts, words: list[str], use_control_master: bool
) -> None:
    with LogInServer(refuses="exec") as server:
        fields = {"ssh_port": server.port, "use_control_master": use_control_master}
        write_hosts(box={**fields, "ssh_key": None})
        done = inv(*words, "--host", "box")

    told = done.stdout + done.stderr
    assert done.returncode == 255
    assert b"exec" in told or b"closed the session without running the command" in told
    assert b"'inv shell' may work" in told
    assert b"outcome unknown" not in told


@pytest.mark.parametrize("dead_route", [None, "127.0.0.77"])
def test_new_connection_through_a_jump_host_logs_in_there_once(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool, dead_route: str | None
) -> None:
    server, bastion = make_sshd(), make_sshd()
    jump = SSHConfig(bastion.address, bastion.port, bastion.user, str(client_key), name="bastion")
    config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")
    config.tailscale_ip = dead_route
    config.proxy_jump, config.jump_host = "bastion", jump
    config.use_control_master = use_control_master

    result = run_on(config)

    assert (result.stdout, result.error) == ("in\n", None)
    assert (bastion.accepted_logins(), server.accepted_logins()) == (1, 1)


def test_jump_host_is_dialled_from_its_bind_address(
    sshd: Sshd, make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    bastion = make_sshd()
    jump = SSHConfig(bastion.address, bastion.port, bastion.user, str(client_key), name="bastion")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="box")
    config.proxy_jump, config.jump_host = "bastion", replace(jump, bind_address="127.0.0.78")
    config.use_control_master = use_control_master

    result = run_on(config)

    assert (result.stdout, result.error) == ("in\n", None)
    assert set(re.findall(r"Accepted publickey for \S+ from (\S+)", bastion.log)) == {"127.0.0.78"}


def test_jump_host_is_reached_over_its_route_that_works(
    sshd: Sshd, make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    bastion = make_sshd()
    jump = SSHConfig(bastion.address, 9, bastion.user, str(client_key), name="bastion")
    jump.tailscale_ip = "127.0.0.1"
    jump = replace(jump, tailscale_port=bastion.port)
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="box")
    config.proxy_jump, config.jump_host = "bastion", jump
    config.use_control_master = use_control_master

    results = [run_on(config), run_on(config)]

    assert [(result.stdout, result.error) for result in results] == [("in\n", None)] * 2


def test_silent_route_does_not_keep_a_jump_host_from_openssh(
    sshd: Sshd, make_sshd: MakeSshd, client_key: Path
) -> None:
    bastion = make_sshd(config=["Ciphers chacha20-poly1305@openssh.com"])  # Paramiko lacks it
    jump = SSHConfig(bastion.address, bastion.port, bastion.user, str(client_key), name="bastion")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="box")
    config.proxy_jump, config.jump_host, config.connect_timeout = "bastion", jump, 5

    with Blackhole() as silent:
        config.tailscale_ip = silent.address
        result = run_on(replace(config, tailscale_port=silent.port))

    assert (result.stdout, result.error, result.transport_used) == ("in\n", None, "direct")


def test_changed_key_of_a_jump_host_is_not_taken_for_the_key_of_the_host(
    sshd: Sshd, client_key: Path, use_control_master: bool
) -> None:
    other = client_key.with_suffix(".pub").read_text()
    jump = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="bastion")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="box")
    config.proxy_jump, config.jump_host = "bastion", replace(jump, ssh_host_key=other)
    config.use_control_master = use_control_master

    error = str(run_on(config).error)

    assert "jump host failed: " in error
    assert "host key" in error
    assert "the line of 'box'" not in error


def test_proxy_command_runs_once_for_a_new_connection(
    sshd: Sshd, client_key: Path, use_control_master: bool, tmp_path: Path
) -> None:
    runs, program = tmp_path / "runs", tmp_path / "proxy"
    program.write_text(f'#!/bin/sh\necho run >> {runs}\nexec nc "$1" "$2"\n')
    program.chmod(0o755)
    settings = Path.home() / ".ssh" / "config"
    settings.parent.mkdir(mode=0o700)
    settings.write_text(f"Host {sshd.address}\n  ProxyCommand {program} %h %p\n")
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="box")
    config.use_control_master = use_control_master

    assert run_on(config).stdout == "in\n"
    assert runs.read_text().count("run") == 1
