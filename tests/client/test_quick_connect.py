"""The second start of ``ringtasks connect`` for a host, which knows the routes from the first."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringtasks.health.document import count_success
from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.store import HealthStore
from tests.support.fixtures import MakeSshd, WriteHosts
from tests.support.sshd import Sshd

PROGRAM = str(Path(sys.executable).with_name("ringtasks"))
#: Modules that take longer to load than the quick start may take altogether.
HEAVY = ("dataclasses", "typing", "socket", "pathlib", "subprocess", "yaml", "ringtasks.inventory")

Passed = Callable[[Path], socket.socket]


@pytest.fixture
def passed() -> Iterator[Passed]:
    """Starts connect as ssh does with ProxyUseFdpass, and returns the connection."""
    connections: list[socket.socket] = []

    def start(hosts: Path) -> socket.socket:
        ours, theirs = socket.socketpair()
        words = [PROGRAM, "connect", "--inventory", str(hosts), "--fdpass", "--", "a"]
        with ours, subprocess.Popen(words, stdin=theirs, stdout=theirs) as process:
            theirs.close()
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            assert process.wait(30) == 0
        connections.append(socket.socket(fileno=descriptors[0]))
        return connections[-1]

    yield start
    for connection in connections:
        connection.close()


def plans() -> list[Path]:
    folder = Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "routes"
    return list(folder.glob("*"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


def test_second_start_loads_little_and_counts_the_same(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd
) -> None:
    hosts = write_hosts(a={})
    passed(hosts)
    program = (
        "import sys, os; from ringtasks.common.console_script import main\n"
        "sys.argv = ['ringtasks', 'connect', '--inventory', "
        f"{str(hosts)!r}, '--fdpass', '--', 'a']\n"
        f"os._exit = lambda status: sys.exit(repr([n for n in {HEAVY!r} if n in sys.modules]))\n"
        "main()"
    )
    ours, theirs = socket.socketpair()

    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
            check=False, timeout=30,
        )  # fmt: skip
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    with socket.socket(fileno=descriptor) as connection:
        assert connection.getpeername() == (sshd.address, sshd.port)

    assert done.stderr == b"[]\n"
    health = HealthStore().get("a")
    assert (health.total_successes, health.transports["direct"].total_successes) == (2, 2)


def test_plan_is_private_and_made_anew_after_a_change(
    write_hosts: WriteHosts, passed: Passed, make_sshd: MakeSshd, sshd: Sshd
) -> None:
    hosts = write_hosts(a={})
    assert passed(hosts).getpeername()[1] == sshd.port
    (plan,) = plans()
    assert plan.stat().st_mode & 0o777 == 0o600
    other = make_sshd()

    write_hosts(a={"ssh_port": other.port})

    assert passed(hosts).getpeername()[1] == other.port
    assert passed(hosts).getpeername()[1] == other.port


def test_file_of_ssh_that_appears_later_counts(
    write_hosts: WriteHosts, passed: Passed, make_sshd: MakeSshd
) -> None:
    hosts = write_hosts(a={"ssh_host": "127.0.0.1"})
    passed(hosts)
    config = Path(os.environ["HOME"]) / ".ssh" / "config"
    config.parent.mkdir()

    config.write_text("Host 127.0.0.1\n  HostName 127.0.0.2\n")

    assert passed(hosts).getpeername()[0] == "127.0.0.2"


def test_hosts_that_may_move_without_a_change_of_a_file_have_no_plan(
    write_hosts: WriteHosts, passed: Passed
) -> None:
    hosts = write_hosts(a={})
    hosts.write_text(f"sources: []\n{hosts.read_text()}")

    passed(hosts)

    assert plans() == []


def test_variable_in_an_address_has_no_plan(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_INVENTORY_ENV", "PLACE")
    monkeypatch.setenv("PLACE", sshd.address)

    passed(write_hosts(a={"ssh_host": "${PLACE}"}))

    assert plans() == []


@pytest.mark.parametrize("damage", ["cut", "not JSON", "another type", "readable by others"])
def test_a_plan_that_cannot_be_trusted_is_ignored(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, damage: str
) -> None:
    hosts = write_hosts(a={})
    passed(hosts)
    (plan,) = plans()
    known = json.loads(plan.read_text())
    known["routes"] = [["direct", "127.0.0.1", 9]]
    text = json.dumps(known)
    damaged = {"cut": text[:-9], "not JSON": "\0\xff", "another type": "[1]"}
    plan.write_text(damaged.get(damage, text))
    plan.chmod(0o644 if damage == "readable by others" else 0o600)

    assert passed(hosts).getpeername() == (sshd.address, sshd.port)


def test_failing_route_is_left_out_and_an_expired_back_off_is_not_ours(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, listener: socket.socket
) -> None:
    hosts = write_hosts(
        a={"tailscale_ip": "127.0.0.1", "tailscale_port": listener.getsockname()[1]}
    )
    failed = (RouteOutcome("tailscale", success=False, reason="refused"),)
    HealthStore().record([HostOutcome("a", success=None, routes=failed)])
    passed(hosts)

    passed(hosts)

    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    health = HealthStore().get("a")
    assert health.transports["direct"].total_successes == 2
    assert health.transports["tailscale"].total_failures == 1


def test_connection_that_was_begun_is_the_first_of_the_race(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    hosts = write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": port})
    listener_answers(listener)
    assert passed(hosts).getpeername()[1] == port

    connection = passed(hosts)  # the listener accepts, and is silent

    assert connection.getpeername() == (sshd.address, sshd.port)
    assert HealthStore().get("a").transports["tailscale"].last_reason == "overtaken"
    listener.accept()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):  # it was dialled once
        listener.accept()


def listener_answers(listener: socket.socket) -> None:
    """Let the next connection be one to an SSH server."""

    def answer() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(ConnectionResetError):
            peer.sendall(b"SSH-2.0-stand-in\r\n")
            peer.recv(1)

    threading.Thread(target=answer, daemon=True).start()


@pytest.mark.parametrize(
    "before",
    [
        [],
        [HostOutcome("b", success=True, at=5.0)],
        [HostOutcome("a", success=False, reason="x", at=5.0)] * 4,
        [HostOutcome("a", success=True, routes=(RouteOutcome("direct", False, "x"),), at=5.0)],
    ],
)
def test_a_quick_success_counts_as_any_other(tmp_path: Path, before: list[HostOutcome]) -> None:
    success = HostOutcome("a", success=True, routes=(RouteOutcome("direct", True),), at=77.0)
    usual, quick = HealthStore(tmp_path / "usual.json"), HealthStore(tmp_path / "quick.json")
    for store in (usual, quick):
        store.record([HostOutcome("other", success=True, at=1.0), *before])

    usual.record([success])
    assert count_success(str(quick.path), "a", "direct", 77.0)

    assert json.loads(quick.path.read_bytes()) == json.loads(usual.path.read_bytes())
    assert quick.path.read_bytes().count(b"\n") == usual.path.read_bytes().count(b"\n")


@pytest.mark.parametrize("content", [None, "", "[]", '{"version": 2, "hosts": {}}', "a pipe"])
def test_a_quick_success_leaves_an_unusual_file_to_the_store(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "health.json"
    (tmp_path / ".health.json.lock").touch()
    if content == "a pipe":
        os.mkfifo(path)
    elif content is not None:
        path.write_text(content)

    assert not count_success(str(path), "a", "direct", 77.0)
    assert content in (None, "a pipe") or path.read_text() == content
