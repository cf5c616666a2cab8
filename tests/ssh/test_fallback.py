"""A command runs once, by whichever route works; and never twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringtasks.client.ssh_client import SSHClient
from ringtasks.health.store import HealthStore
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.pins import KnownHosts
from tests.support.faulty import Blackhole, Refusing, Resetting, Silent, Wire
from tests.support.fixtures import MakeSshd

COUNT = "echo ran >> ~/count; cat ~/count"


@pytest.fixture
def box(make_sshd: MakeSshd, client_key: Path) -> SSHConfig:
    """A host whose direct route works, on a server of its own."""
    server = make_sshd()
    return SSHConfig(
        server.address,
        server.port,
        server.user,
        str(client_key),
        connect_timeout=8,
        use_control_master=False,
        name="box",
        ssh_host_key=server.host_public_key,
    )


def with_first_route(box: SSHConfig, address: str, port: int) -> SSHConfig:
    return replace(box, tailscale_ip=address, tailscale_port=port)


@pytest.fixture(
    params=[
        "refused",
        "blackholed",
        "silent",
        "reset",
        "wrong host key",
        "name not found",
    ]
)
def broken_first(
    request: pytest.FixtureRequest, box: SSHConfig, make_sshd: MakeSshd
) -> Iterator[tuple[SSHConfig, str]]:
    """The box with a first route that is broken in one way, and how the health file calls that."""
    plain: dict[str, tuple[Any, str]] = {
        "refused": (Refusing, "refused"),
        "blackholed": (Blackhole, "overtaken"),
        "silent": (Silent, "overtaken"),
        "reset": (Resetting, "reset"),
    }
    with ExitStack() as stack:
        if request.param in plain:
            fault, reason = plain[request.param]
            server = stack.enter_context(fault())
            yield with_first_route(box, server.address, server.port), reason
        elif request.param == "wrong host key":
            impostor = make_sshd()
            yield with_first_route(box, impostor.address, impostor.port), "host key"
        else:
            yield with_first_route(box, "no-such-host.invalid", 22), "name not found"


def test_command_runs_once_via_the_second_route_if_the_first_is_broken(
    broken_first: tuple[SSHConfig, str],
) -> None:
    config, reason = broken_first

    with SSHClient(config) as client:
        result = client.run(COUNT)

    assert result.stdout == "ran\n"
    assert result.transport_used == "direct"
    assert result.error is None
    health = HealthStore().get("box")
    assert health.total_successes == 1
    assert health.transports["tailscale"].last_reason == reason
    assert health.transports["direct"].total_successes == 1


def test_refused_login_falls_back_to_the_next_route(make_sshd: MakeSshd, client_key: Path) -> None:
    good = make_sshd()
    strict = make_sshd(None, host_key=good.host_key)  # the same machine, which accepts no key
    config = SSHConfig(
        good.address,
        good.port,
        good.user,
        str(client_key),
        name="box",
        tailscale_ip=strict.address,
        tailscale_port=strict.port,
    )

    with SSHClient(config) as client:
        result = client.run(COUNT)

    assert (result.stdout, result.transport_used) == ("ran\n", "direct")
    assert HealthStore().get("box").transports["tailscale"].last_reason == "authentication refused"


def test_login_refused_on_every_route_is_reported_with_advice(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    strict = make_sshd(None)
    config = SSHConfig(strict.address, strict.port, strict.user, str(client_key), name="box")

    with SSHClient(config) as client:
        result = client.run("true")

    assert (result.success, result.returncode, result.transport_used) == (False, 255, None)
    assert result.error is not None
    assert "authentication refused" in result.error
    assert "check ssh_user and ssh_key" in result.error


def test_an_impostor_is_refused_on_every_route(make_sshd: MakeSshd, client_key: Path) -> None:
    real, impostor = make_sshd(), make_sshd()
    first = SSHConfig(real.address, real.port, real.user, str(client_key), name="box")
    with SSHClient(first) as client:
        assert client.run("true")  # first contact: pinned

    taken_over = SSHConfig(
        impostor.address,
        impostor.port,
        real.user,
        str(client_key),
        name="box",
        tailscale_ip="127.0.0.1",
        tailscale_port=impostor.port,
    )
    with SSHClient(taken_over) as client:
        result = client.run("true")

    assert result.returncode == 255
    assert result.error is not None
    assert result.error.count("host key changed: got") == 2
    assert str(KnownHosts().path) in result.error
    assert impostor.accepted_logins() == 0


def test_impostor_with_a_key_of_another_type_is_refused(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    real = make_sshd()
    impostor = make_sshd(host_key_options=("-t", "rsa", "-b", "2048", "-N", ""))
    with SSHClient(
        SSHConfig(real.address, real.port, real.user, str(client_key), name="box")
    ) as client:
        assert client.run("true")

    with SSHClient(
        SSHConfig(impostor.address, impostor.port, real.user, str(client_key), name="box")
    ) as client:
        result = client.run("true")

    assert result.error is not None
    assert "host key" in result.error
    assert impostor.accepted_logins() == 0


def test_pinned_rsa_key_is_requested_and_accepted(make_sshd: MakeSshd, client_key: Path) -> None:
    both = make_sshd(host_key_options=("-t", "rsa", "-b", "2048", "-N", ""))
    config = SSHConfig(
        both.address,
        both.port,
        both.user,
        str(client_key),
        name="box",
        ssh_host_key=both.host_public_key,
    )

    with SSHClient(config) as client:
        assert client.run("true").success


def test_an_ephemeral_host_may_change_its_key_and_is_not_pinned(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    for server in (make_sshd(), make_sshd()):
        config = SSHConfig(
            server.address,
            server.port,
            server.user,
            str(client_key),
            name="box",
            is_ephemeral=True,
        )
        with SSHClient(config) as client:
            assert client.run("true").success

    assert not KnownHosts().path.exists()


def test_a_route_that_failed_is_not_tried_first_the_next_time(box: SSHConfig) -> None:
    with Blackhole() as blackhole:
        config = with_first_route(box, blackhole.address, blackhole.port)
        with SSHClient(config) as client:
            client.run("true")
        opened: list[Any] = []
        with SSHClient(config, on_open=opened.append) as client:
            client.run("true")

    assert [(route.route, route.success) for route in opened[0].routes] == [("direct", True)]


def test_connecting_over_blackholed_routes_ends_by_the_connect_timeout(box: SSHConfig) -> None:
    with Blackhole() as one, Blackhole() as other:
        config = replace(
            with_first_route(box, one.address, one.port),
            host=other.address,
            port=other.port,
            connect_timeout=1.5,
        )
        started = time.monotonic()
        with SSHClient(config) as client:
            result = client.run("true")
        elapsed = time.monotonic() - started

    assert result.returncode == 255
    assert result.error is not None
    assert "tailscale" in result.error
    assert "direct" in result.error
    assert 1.4 <= elapsed <= 6  # the limit is for both routes together; a busy machine adds


def test_a_link_cut_after_the_command_was_sent_is_an_unknown_outcome(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd()
    with Wire(server.address, server.port) as wire:
        config = SSHConfig(
            wire.address,
            wire.port,
            server.user,
            str(client_key),
            name="box",
            tailscale_ip=server.address,  # a second way in, which must not be taken
            tailscale_port=1,
        )

        def cut(stream: int, chunk: bytes) -> None:
            wire.cut()

        with SSHClient(config) as client:
            result = client.run("echo ran >> ~/count; echo up; sleep 5", on_output=cut)

    assert result.returncode == 255
    assert result.error is not None
    assert "outcome unknown" in result.error
    assert (server.home / "count").read_text() == "ran\n"
    health = HealthStore().get("box")
    assert (health.total_successes, health.total_failures) == (0, 1)
    assert health.transports["direct"].last_reason == "link lost"


def test_command_never_runs_twice_wherever_the_connection_is_cut(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd()
    with Wire(server.address, server.port) as wire:
        config = SSHConfig(wire.address, wire.port, server.user, str(client_key), name="box")
        for after in range(200, 4200, 200):
            (server.home / "count").unlink(missing_ok=True)
            wire.cut_after(after)
            with SSHClient(config) as client:
                result = client.run(COUNT)

            ran = (server.home / "count").exists()
            runs = (server.home / "count").read_text() if ran else ""
            assert runs in ("", "ran\n")
            assert not (result.success and not ran)


def test_connection_lost_between_commands_is_replaced_silently(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd()
    with Wire(server.address, server.port) as wire:
        config = SSHConfig(wire.address, wire.port, server.user, str(client_key), name="box")
        with SSHClient(config) as client:
            client.run("true")
            wire.cut()
            result = client.run(COUNT)

    assert result.stdout == "ran\n"
    assert result.error is None


@pytest.mark.parametrize("status", [0, 1, 255])
def test_failing_command_counts_as_a_connection_success(box: SSHConfig, status: int) -> None:
    with SSHClient(box) as client:
        result = client.run(f"exit {status}")

    assert (result.returncode, result.error, result.success) == (status, None, status == 0)
    health = HealthStore().get("box")
    assert (health.total_successes, health.total_failures) == (1, 0)


def test_host_that_vanishes_during_a_command_is_detected(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd()
    with Wire(server.address, server.port) as wire:
        config = SSHConfig(
            wire.address,
            wire.port,
            server.user,
            str(client_key),
            server_alive_interval=1,
            server_alive_count_max=2,
            name="box",
            use_control_master=use_control_master,
        )
        frozen_at: list[float] = []

        def freeze(stream: int, chunk: bytes) -> None:
            wire.freeze()
            frozen_at.append(time.monotonic())

        with SSHClient(config) as client:
            result = client.run("echo up; sleep 60", on_output=freeze)
            elapsed = time.monotonic() - frozen_at[0]
        wire.thaw()

    assert result.error is not None
    assert "outcome unknown" in result.error
    assert ("is gone" if use_control_master else "silent") in result.error
    assert elapsed <= 10  # 1 s x 2, and what a busy machine adds; the command takes 60 s


def test_a_quiet_command_outlives_the_keepalive_limit(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd()
    config = SSHConfig(
        server.address,
        server.port,
        server.user,
        str(client_key),
        server_alive_interval=1,
        server_alive_count_max=1,
        name="box",
    )

    with SSHClient(config) as client:
        result = client.run("sleep 2.5; echo done")

    assert result.stdout == "done\n"
