"""The second start of ``ringtasks connect`` for a host, which knows the routes from the first."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringtasks.client import quick_race, route_plan
from ringtasks.errors import Reason
from ringtasks.health.counts import BACKOFF_START
from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.quick_update import claim, count
from ringtasks.health.store import HealthStore
from ringtasks.inventory.files import locate
from ringtasks.inventory.loader import load_located
from ringtasks.inventory.sources.kinds import KEYS
from ringtasks.ssh import race
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


@pytest.mark.parametrize("first", [None, "overtaken", "refused", "name"])
def test_second_start_loads_little_and_counts_the_same(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, listener: socket.socket, first: str | None
) -> None:
    port = listener.getsockname()[1] if first == "overtaken" else 9  # it is silent; it refuses
    dead = {"tailscale_ip": "127.0.0.1", "tailscale_port": port}
    named = {"ssh_host": "0x7f.1"}  # to the look-up it is a name, of 127.0.0.1
    hosts = write_hosts(a={None: {}, "name": named}.get(first, dead))
    passed(hosts)
    HealthStore().path.unlink()
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
        assert connection.getpeername()[1] == sshd.port

    assert done.stderr == b"[]\n"
    health = HealthStore().get("a")
    assert (health.total_successes, health.transports["direct"].total_successes) == (1, 1)
    reasons = {name: known.last_reason for name, known in health.transports.items()}
    is_dead = first in ("overtaken", "refused")
    assert reasons == {"direct": "", **({"tailscale": first} if is_dead else {})}


@pytest.mark.parametrize("name", ["localhost", "no-such-host.invalid"])
def test_name_without_a_single_address_is_left_to_the_slow_start(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, name: str
) -> None:
    hosts = write_hosts(a={"tailscale_ip": name, "tailscale_port": sshd.port})
    passed(hosts)
    HealthStore().reset()

    assert passed(hosts).getpeername()[1] == sshd.port
    assert HealthStore().get("a").total_successes == 1


def test_constants_of_the_quick_start_are_those_of_the_modules_that_load_slowly() -> None:
    assert quick_race.HEAD_START == race.HEAD_START
    assert list(quick_race.REASONS.values()) == [Reason.OVERTAKEN, Reason.REFUSED]


@pytest.mark.parametrize("answer", [b"", b"SS", b"HTTP/1.1 400 Bad Request\r\n"])
def test_other_answer_than_a_banner_is_left_to_the_slow_start(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, listener: socket.socket, answer: bytes
) -> None:
    port = listener.getsockname()[1]
    hosts = write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": port})
    listener_answers(listener)
    assert passed(hosts).getpeername()[1] == port
    listener_answers(listener, answer)

    assert passed(hosts).getpeername() == (sshd.address, sshd.port)

    health = HealthStore().get("a")
    assert (health.total_successes, health.transports["tailscale"].total_failures) == (2, 1)


def test_plan_is_private_and_made_anew_after_a_change(
    write_hosts: WriteHosts, passed: Passed, make_sshd: MakeSshd, sshd: Sshd
) -> None:
    hosts = write_hosts(a={})
    assert passed(hosts).getpeername()[1] == sshd.port
    (planned,) = plans()
    assert planned.stat().st_mode & 0o777 == 0o600
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


def test_plan_of_a_source_is_valid_while_its_answer_is_fresh(
    write_hosts: WriteHosts, passed: Passed, make_sshd: MakeSshd, sshd: Sshd
) -> None:
    hosts = write_hosts(a={"ssh_port": 9})
    hosts.write_text(f"sources: [{{from: command, command: cat list.json}}]\n{hosts.read_text()}")
    (hosts.parent / "list.json").write_text(json.dumps({"a": {"ssh_port": sshd.port}}))
    assert passed(hosts).getpeername()[1] == sshd.port
    other = make_sshd()
    (hosts.parent / "list.json").write_text(json.dumps({"a": {"ssh_port": other.port}}))

    (planned,) = plans()
    known = json.loads(planned.read_text())
    assert known["since"] + 300 == pytest.approx(known["until"])
    assert route_plan.load(str(hosts), "a") is not None
    planned.write_text(json.dumps({**known, "until": time.time() - 1}))
    assert route_plan.load(str(hosts), "a") is None
    planned.write_text(json.dumps({**known, "since": time.time() + 9}))  # the clock was set back
    assert route_plan.load(str(hosts), "a") is None
    planned.write_text(json.dumps(known))
    load_located(locate(hosts), newer_than=time.time())
    assert passed(hosts).getpeername()[1] == other.port


def test_source_that_is_asked_with_a_key_has_no_plan(
    write_hosts: WriteHosts, passed: Passed, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = write_hosts(a={})
    hosts.write_text(f"sources: [{{from: command, command: 'echo {{}}'}}]\n{hosts.read_text()}")
    passed(hosts)
    assert route_plan.load(str(hosts), "a") is not None

    monkeypatch.setenv("RUNPOD_API_KEY", "another account's")

    assert route_plan.load(str(hosts), "a") is None
    assert set(KEYS.values()) == set(route_plan.KEYS)


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
    (planned,) = plans()
    known = json.loads(planned.read_text())
    known["routes"] = [["direct", "127.0.0.1", 9]]
    text = json.dumps(known)
    damaged = {"cut": text[:-9], "not JSON": "\0\xff", "another type": "[1]"}
    planned.write_text(damaged.get(damage, text))
    planned.chmod(0o644 if damage == "readable by others" else 0o600)

    assert passed(hosts).getpeername() == (sshd.address, sshd.port)


def test_failing_route_is_left_out(
    write_hosts: WriteHosts, passed: Passed, sshd: Sshd, listener: socket.socket
) -> None:
    hosts = write_hosts(
        a={"tailscale_ip": "127.0.0.1", "tailscale_port": listener.getsockname()[1]}
    )
    failed = (RouteOutcome("tailscale", success=False, reason="refused"),)
    HealthStore().record([HostOutcome("a", success=None, routes=failed)])
    listener.setblocking(False)
    dialled = 0
    for _ in range(4):  # if sshd is slow on a busy machine, the other route is dialled as well
        passed(hosts)
        with contextlib.suppress(BlockingIOError):
            listener.accept()
            dialled += 1

    assert dialled < 4
    assert HealthStore().get("a").transports["direct"].total_successes == 4


def test_one_process_at_a_time_tries_a_route_whose_back_off_is_over(
    write_hosts: WriteHosts, passed: Passed, listener: socket.socket
) -> None:
    hosts = write_hosts(
        a={"tailscale_ip": "127.0.0.1", "tailscale_port": listener.getsockname()[1]}
    )
    passed(hosts)
    listener.accept()
    long_ago = time.time() - BACKOFF_START - 1
    failed = (RouteOutcome("tailscale", success=False, reason="refused"),)
    HealthStore().reset()
    HealthStore().record([HostOutcome("a", success=None, routes=failed, at=long_ago)])
    path = str(HealthStore().path)

    assert claim(path, "a", "tailscale", time.time())
    assert not claim(path, "a", "tailscale", time.time())
    assert not HealthStore().claim_probe("a", "tailscale", time.time())
    passed(hosts)  # the other process is trying it
    assert HealthStore().get("a").transports["tailscale"].total_failures == 1
    HealthStore().reset()
    HealthStore().record([HostOutcome("a", success=None, routes=failed, at=long_ago)])
    passed(hosts)

    tailscale = HealthStore().get("a").transports["tailscale"]
    assert (tailscale.total_failures, tailscale.last_reason) == (2, "overtaken")
    assert tailscale.probing_since is None
    listener.accept()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


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


def listener_answers(listener: socket.socket, answer: bytes = b"SSH-2.0-stand-in\r\n") -> None:
    """Let the next connection be one to an SSH server, or to another one that ends it."""

    def respond() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(ConnectionResetError):
            peer.sendall(answer)
            if answer.startswith(b"SSH-"):
                peer.recv(1)

    threading.Thread(target=respond, daemon=True).start()


@pytest.mark.parametrize("failures", [[], [("tailscale", "overtaken"), ("direct", "refused")]])
@pytest.mark.parametrize(
    "before",
    [
        [],
        [HostOutcome("b", success=True, at=5.0)],
        [HostOutcome("a", success=False, reason="x", at=5.0)] * 4,
        [HostOutcome("a", success=True, routes=(RouteOutcome("direct", False, "x"),), at=5.0)],
        [HostOutcome("a", success=None, routes=(RouteOutcome("tailscale", False),), at=5.0)],
    ],
)
def test_a_quick_success_counts_as_any_other(
    tmp_path: Path, before: list[HostOutcome], failures: list[tuple[str, str]]
) -> None:
    routes = [RouteOutcome(lost, False, reason) for lost, reason in failures]
    routes.append(RouteOutcome("cloudflare", True))
    success = HostOutcome("a", success=True, routes=tuple(routes), at=77.0)
    usual, quick = HealthStore(tmp_path / "usual.json"), HealthStore(tmp_path / "quick.json")
    for store in (usual, quick):
        store.record([HostOutcome("other", success=True, at=1.0), *before])

    usual.record([success])
    assert count(str(quick.path), "a", "cloudflare", failures, 77.0)

    assert json.loads(quick.path.read_bytes()) == json.loads(usual.path.read_bytes())
    assert quick.path.read_bytes().count(b"\n") == usual.path.read_bytes().count(b"\n")


def test_a_quick_success_begins_the_health_file(tmp_path: Path) -> None:
    path = tmp_path / "health.json"

    assert count(str(path), "a", "direct", [], 77.0)

    assert HealthStore(path).get("a").total_successes == 1
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2, "hosts": {}}', "a pipe"])
def test_a_quick_success_leaves_an_unusual_file_to_the_store(tmp_path: Path, content: str) -> None:
    path = tmp_path / "health.json"
    (tmp_path / ".health.json.lock").touch()
    if content == "a pipe":
        os.mkfifo(path)
    else:
        path.write_text(content)

    assert not count(str(path), "a", "direct", [], 77.0)
    assert content == "a pipe" or path.read_text() == content


def test_version_of_a_plan_covers_modules_that_exist() -> None:
    assert [path for path in route_plan.modules() if not Path(path).is_file()] == []
