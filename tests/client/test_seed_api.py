"""Code of the SSH module that ringtasks grew out of runs with only the import changed."""

from __future__ import annotations

import asyncio
import dataclasses
import getpass
import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ringtasks
from ringtasks import SSHClient, SSHConfig, SSHHealth, SSHResult, get_cluster_nodes, get_ssh_client
from ringtasks.health.store import HealthStore
from tests.support.faulty import Blackhole
from tests.support.sshd import Sshd

WriteHosts = Callable[..., Path]


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    ringtasks.close_all_clients_sync()


@pytest.fixture
def in_project(
    write_hosts: WriteHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> WriteHosts:
    """Hosts as `write_hosts` writes them, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_hosts


#: Each way in which such code calls what it imports: (callable, positional arguments, keywords),
#: and the signatures that were promised.
CALLS: list[tuple[Any, int, tuple[str, ...]]] = [
    (get_ssh_client, 1, ()),
    (get_cluster_nodes, 0, ()),
    (get_cluster_nodes, 1, ()),
    (SSHClient, 1, ()),
    (SSHConfig, 0, ("host",)),
    (SSHConfig, 1, ()),
    (SSHConfig, 0, ("host", "port")),
    (SSHConfig, 0, ("host", "port", "user")),
    (SSHConfig, 0, ("host", "port", "user", "key_path")),
    (SSHConfig, 0, ("host", "user", "key_path")),
    (SSHConfig, 0, ("host", "port", "user", "connect_timeout", "command_timeout")),
    (SSHConfig, 0, ("host", "user", "key_path", "connect_timeout", "command_timeout")),
    (SSHConfig, 0, ("host", "port", "user", "key_path", "connect_timeout", "command_timeout")),
    (SSHConfig, 0, ("host", "port", "user", "key_path", "tailscale_ip", "work_dir")),
    (
        SSHConfig,
        0,
        (
            *("host", "port", "user", "key_path", "work_dir", "venv_activate", "tailscale_ip"),
            *("connect_timeout", "server_alive_interval", "server_alive_count_max"),
        ),
    ),
    (
        SSHConfig,
        0,
        (
            *("host", "port", "user", "key_path", "connect_timeout", "command_timeout"),
            *("tailscale_ip", "work_dir", "venv_activate"),
        ),
    ),
    (SSHConfig, 16, ()),
    (SSHResult, 0, ("success", "returncode", "stdout", "stderr", "elapsed_ms", "command", "host")),
    (
        SSHResult,
        0,
        (
            *("success", "returncode", "stdout", "stderr", "elapsed_ms", "command", "host"),
            *("transport_used", "timed_out", "error"),
        ),
    ),
    (SSHClient.run, 2, ("timeout",)),
    (SSHClient.run, 2, ("timeout", "cwd", "env")),
    (SSHClient.run, 5, ()),
    (SSHClient.run_async, 2, ("timeout",)),
    (SSHClient.run_async, 2, ("timeout", "bypass_circuit_breaker")),
    (SSHClient.run_async, 6, ()),
    (SSHClient.run_async_with_retry, 2, ("timeout", "max_retries", "retry_delay")),
    (SSHClient.run_async_with_retry, 5, ()),
    (SSHClient.run_background, 2, ("log_file", "cwd", "env")),
    (SSHClient.get_process_memory, 2, ()),
    (SSHClient.check_connectivity, 1, ()),
    (SSHClient.is_alive, 1, ()),
    (SSHClient.close, 1, ()),
    (SSHClient.scp_to, 3, ("timeout",)),
    (SSHClient.scp_to, 4, ()),
    (SSHClient.scp_to, 1, ("local_path", "remote_path", "timeout")),
    (SSHClient.scp_to, 1, ("local", "remote")),
    (SSHClient.scp_from, 3, ("timeout",)),
    (SSHClient.scp_from, 1, ("remote_path", "local_path")),
    (ringtasks.run_ssh_command, 2, ("timeout",)),
    (ringtasks.run_ssh_command_async, 2, ("timeout",)),
    (ringtasks.run_ssh_command_async, 0, ("host", "command", "timeout")),
    (ringtasks.run_ssh_command_async, 5, ("port", "key_path", "cwd", "env")),
    (ringtasks.run_ssh_command_sync, 6, ("cwd", "env")),
    (ringtasks.run_ssh_command_sync, 2, ("user", "port", "key_path", "timeout")),
    (ringtasks.close_all_clients, 0, ()),
    (SSHHealth, 0, ()),
    (SSHHealth.reset_circuit, 1, ()),
]


@pytest.mark.parametrize(("function", "positional", "keywords"), CALLS)
def test_documented_call_signatures_bind(
    function: Any, positional: int, keywords: tuple[str, ...]
) -> None:
    inspect.signature(function).bind(*[None] * positional, **dict.fromkeys(keywords))


def test_parameters_are_in_the_documented_order() -> None:
    assert list(inspect.signature(ringtasks.run_ssh_command).parameters)[:5] == [
        "host", "command", "user", "timeout", "max_retries",
    ]  # fmt: skip
    assert list(inspect.signature(ringtasks.run_ssh_command_sync).parameters)[:6] == [
        "host", "command", "user", "port", "key_path", "timeout",
    ]  # fmt: skip
    assert ringtasks.run_ssh_command is ringtasks.run_ssh_command_async


def test_nodes_mapping_keeps_the_inventory_order(in_project: WriteHosts) -> None:
    in_project(zeta={"role": "train"}, alpha={"role": "train"}, mid={})

    nodes = get_cluster_nodes()

    assert list(nodes) == ["zeta", "alpha", "mid"]
    assert nodes["alpha"].name == "alpha"
    assert [get_ssh_client(name).config.name for name in nodes] == ["zeta", "alpha", "mid"]
    assert list(get_cluster_nodes("role=train")) == ["zeta", "alpha"]
    assert nodes.get("nobody") is None


def test_client_of_a_node_is_that_of_its_name(in_project: WriteHosts) -> None:
    in_project(zeta={})

    (node,) = get_cluster_nodes().values()

    assert get_ssh_client(node) is get_ssh_client("zeta")
    assert get_ssh_client(node).run("echo hi").stdout == "hi\n"


def test_client_of_a_changed_node_has_its_settings(in_project: WriteHosts) -> None:
    in_project(zeta={})
    node = get_cluster_nodes()["zeta"]
    known = get_ssh_client("zeta")

    changed = get_ssh_client(dataclasses.replace(node, work_dir="/usr"))

    assert changed.run("pwd").stdout == "/usr\n"
    assert get_ssh_client(node) is known is get_ssh_client("zeta")
    with pytest.raises(TypeError, match="SSHClient takes one"):
        get_ssh_client(known.config)  # type: ignore[arg-type]  # the mistake in question


def test_fleet_run_accepts_nodes(in_project: WriteHosts) -> None:
    from ringtasks import fleet

    in_project(a={}, b={})

    result = fleet.run(get_cluster_nodes("b"), "echo hi")

    assert [(found.host, found.result.stdout) for found in result] == [("b", "hi\n")]


def test_changed_command_timeout_applies_to_the_next_command(in_project: WriteHosts) -> None:
    in_project(box={})
    client = get_ssh_client("box")
    assert client.run("true")

    client.config.command_timeout = 1
    result = client.run("sleep 60")

    assert result.timed_out
    assert "limit of 1 s" in (result.error or "")


def test_changed_connect_timeout_applies_to_the_next_connection() -> None:
    with Blackhole() as silent:
        config = SSHConfig(silent.address, silent.port, use_control_master=False)
        client = SSHClient(config)
        config.connect_timeout = 1
        began = time.monotonic()

        result = client.run("true")

    assert result.returncode == 255
    assert time.monotonic() - began < 6  # not the usual 10 s


def test_changed_address_applies_to_the_next_command(
    make_sshd: Callable[..., Sshd], client_key: Path
) -> None:
    first, second = make_sshd(environ={"BOX": "first"}), make_sshd(environ={"BOX": "second"})
    config = SSHConfig(
        first.address, first.port, first.user, str(client_key), use_control_master=False
    )
    with SSHClient(config) as client:
        before = client.run("echo $BOX").stdout
        config.port = second.port
        after = client.run("echo $BOX").stdout
        config.work_dir = "/"
        config.key_path = client_key  # type: ignore[assignment]  # as expanduser() takes it
        where = client.run("pwd").stdout

    assert (before, after, where) == ("first\n", "second\n", "/\n")
    assert second.accepted_logins() == 1  # work_dir needs no new connection


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("connect_timeot", 30, AttributeError),
        ("port", 70000, ValueError),
        ("connect_timeout", -1, ValueError),
        ("user", 7, TypeError),
    ],
)
def test_invalid_value_is_refused_on_assignment(
    field: str, value: object, error: type[Exception]
) -> None:
    config = SSHConfig("box")

    with pytest.raises(error, match=field):
        setattr(config, field, value)

    assert config == SSHConfig("box")


def test_module_functions_are_coroutines_with_blocking_counterparts(in_project: WriteHosts) -> None:
    in_project(box={})

    async def use() -> list[str]:
        results = [
            await ringtasks.run_ssh_command("box", "echo $A", env={"A": "1"}),
            await ringtasks.run_ssh_command_async("box", "pwd", cwd="/"),
        ]
        await ringtasks.close_all_clients()
        return [result.stdout for result in results]

    client = get_ssh_client("box")
    assert asyncio.run(use()) == ["1\n", "/\n"]
    assert get_ssh_client("box") is not client
    assert ringtasks.run_ssh_command_sync("box", "echo hi").stdout == "hi\n"


def test_commands_run_twice_only_on_request(in_project: WriteHosts, sshd: Sshd) -> None:
    in_project(box={})
    counting = "echo x >>~/runs; exit 1"

    once = asyncio.run(ringtasks.run_ssh_command("box", counting))
    runs_once = len((sshd.home / "runs").read_text().split())
    asyncio.run(ringtasks.run_ssh_command("box", counting, max_retries=2))

    assert once.returncode == 1
    assert runs_once == 1
    assert len((sshd.home / "runs").read_text().split()) == 3
    (sshd.home / "runs").unlink()


def test_explicit_user_port_and_key_override_the_host_settings(
    in_project: WriteHosts, sshd: Sshd, client_key: Path
) -> None:
    in_project(box={"ssh_user": "nobody-there", "ssh_port": 1, "ssh_key": "/dev/null"})
    own = getpass.getuser()

    as_named = ringtasks.run_ssh_command_sync("box", "id -un", own, sshd.port, str(client_key))
    awaited = asyncio.run(
        ringtasks.run_ssh_command("box", "id -un", own, port=sshd.port, key_path=str(client_key))
    )

    assert (as_named.stdout, awaited.stdout) == (f"{own}\n", f"{own}\n")
    assert get_ssh_client("box").config.user == "nobody-there"


def test_default_port_22_means_the_port_of_the_host(in_project: WriteHosts) -> None:
    in_project(box={})

    assert ringtasks.run_ssh_command_sync("box", "echo hi", port=22).stdout == "hi\n"


def test_is_alive_connects_to_a_host_not_reached_before(in_project: WriteHosts) -> None:
    in_project(box={}, gone={"ssh_port": 1})
    box = get_ssh_client("box")

    assert not box.is_connected()
    assert box.is_alive()
    assert box.is_connected()
    assert not get_ssh_client("gone").is_alive()


def test_is_alive_is_false_if_the_host_became_unreachable(
    make_sshd: Callable[..., Sshd], client_key: Path
) -> None:
    server = make_sshd()
    config = SSHConfig(
        server.address, server.port, server.user, str(client_key), use_control_master=False
    )
    with SSHClient(config) as client:
        assert client.is_alive()
        server.stop()
        assert not client.is_alive()


def test_open_circuit_is_reported_and_can_be_reset(in_project: WriteHosts) -> None:
    in_project(gone={"ssh_port": 1})
    client = get_ssh_client("gone")
    for _ in range(3):
        client.run("true")

    health = client.health
    opened = (health.is_circuit_open, 0 < health.seconds_until_recovery <= 30)
    health.reset_circuit()
    stored = HealthStore().get("gone")

    assert opened == (True, True)
    for known in (health, client.health, stored):
        assert (known.is_circuit_open, known.seconds_until_recovery) == (False, 0.0)
        assert (known.is_healthy, known.total_failures) == (True, 3)
        assert known.transports["direct"].route_state_at(time.time()) == "closed"


def test_bypassing_an_open_circuit_is_accepted(in_project: WriteHosts) -> None:
    in_project(box={})

    result = asyncio.run(get_ssh_client("box").run_async("echo hi", bypass_circuit_breaker=True))

    assert result.stdout == "hi\n"


def test_copy_functions_accept_both_names_of_each_path_parameter(
    in_project: WriteHosts, tmp_path: Path
) -> None:
    in_project(box={})
    client = get_ssh_client("box")
    (tmp_path / "near").write_text("x")

    assert client.scp_to(local_path=str(tmp_path / "near"), remote_path="far")
    assert client.scp_from(remote_path="far", local_path=str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "x"
    with pytest.raises(TypeError, match="remote: is missing"):
        client.scp_to("near")
    with pytest.raises(TypeError, match="local: is given twice"):
        client.scp_to("near", "far", local_path="near")


def test_output_holds_both_streams(in_project: WriteHosts) -> None:
    in_project(box={})

    result = get_ssh_client("box").run("echo out; echo err >&2")

    assert result.output == "out\n\nerr"


def test_numbers_in_the_environment_are_sent_as_text(in_project: WriteHosts) -> None:
    in_project(box={})
    env: dict[str, Any] = {"WORLD_SIZE": 8, "LR": 0.1}

    assert get_ssh_client("box").run("echo $WORLD_SIZE $LR", env=env).stdout == "8 0.1\n"
    with pytest.raises(TypeError, match="env: A"):
        get_ssh_client("box").run("true", env={"A": ["1"]})  # type: ignore[dict-item]  # a mistake
