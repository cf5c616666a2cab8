"""``inv forward`` and what it stands on: a port of a host, here."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.client.forwarding import Forwarding
from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.testing import fake_fleet
from tests.support.faulty import Wire
from tests.support.fixtures import Inv, Start, WriteHosts
from tests.support.sshd import Sshd

TIMEOUT = 10.0


class Echo:
    """A server that answers what it was sent, in capitals, once the sender has said it is done."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            connection.sendall(received.upper())

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture(params=["in-process", "control master", "embedded"])
def client(request: pytest.FixtureRequest, sshd: Sshd, client_key: Path) -> Iterator[SSHClient]:
    """One of each kind of link: the same must hold for all."""
    if request.param == "embedded":
        config = SSHConfig("", name="demo", embedded=True)
    else:
        config = config_of(sshd, client_key, use_control_master=request.param == "control master")
    with SSHClient(config) as made:
        yield made


def config_of(sshd: Sshd, key: Path, port: int = 0, **options: bool) -> SSHConfig:
    return SSHConfig(sshd.address, port or sshd.port, sshd.user, str(key), name="box", **options)


@contextlib.contextmanager
def serving(forwarding: Forwarding) -> Iterator[Forwarding]:
    with forwarding:
        thread = threading.Thread(target=forwarding.serve, daemon=True)
        thread.start()
        yield forwarding
    thread.join(TIMEOUT)


def ask(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def ask_until_answered(port: int, question: bytes) -> bytes:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if answer := ask(port, question):
                return answer
        time.sleep(0.05)
    raise AssertionError("no answer in time")


def test_forwarded_data_and_its_end_arrive_and_the_answer_returns(
    client: SSHClient, echo: Echo
) -> None:
    long_question = bytes(range(97, 123)) * 40_000  # beyond any window or buffer on the way

    with serving(Forwarding(client, echo.port, to="127.0.0.1")) as forwarding:
        answers = [ask(forwarding.local_port, question) for question in (b"one", long_question)]

    assert answers == [b"ONE", long_question.upper()]


def test_closed_remote_port_is_reported_and_used_once_it_is_open(
    client: SSHClient,
) -> None:
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]

    with serving(Forwarding(client, port, 0, to="127.0.0.1", tell=told.append)) as forwarding:
        with socket.create_connection(("127.0.0.1", forwarding.local_port), TIMEOUT) as early:
            before = early.recv(1)
        with (
            socket.create_server(("127.0.0.1", port)) as server,
            socket.create_connection(("127.0.0.1", forwarding.local_port), TIMEOUT),
        ):
            server.settimeout(TIMEOUT)
            server.accept()[0].close()

    assert before == b""
    (text,) = told
    assert f"nothing is listening on port {port} of 127.0.0.1" in text


def test_forwarded_port_works_again_after_the_connection_was_cut(
    sshd: Sshd, client_key: Path, echo: Echo
) -> None:
    told: list[str] = []
    with Wire(sshd.address, sshd.port) as wire:
        config = config_of(sshd, client_key, wire.port, use_control_master=False)
        with (
            SSHClient(config) as client,
            serving(Forwarding(client, echo.port, to="127.0.0.1", tell=told.append)) as forwarding,
        ):
            before = ask(forwarding.local_port, b"before")
            wire.cut()
            after = ask_until_answered(forwarding.local_port, b"after")

    assert (before, after) == (b"BEFORE", b"AFTER")


def test_lost_ssh_connection_is_reopened_before_a_client_connects(
    sshd: Sshd, client_key: Path, echo: Echo
) -> None:
    told: list[str] = []
    reopened = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if "open again" in text:
            reopened.set()

    with Wire(sshd.address, sshd.port) as wire:
        config = config_of(sshd, client_key, wire.port, use_control_master=False)
        with SSHClient(config) as client, serving(Forwarding(client, echo.port, tell=tell)):
            wire.cut()
            assert reopened.wait(TIMEOUT)

    assert told == [
        "the link was lost; opening it again",
        "the link is open again, over direct",
    ]


def test_local_port_in_use_is_replaced_by_a_free_one_unless_requested(
    echo: Echo,
) -> None:
    with fake_fleet("box") as fleet:
        client = SSHClient(SSHConfig(fleet["box"].name))
        with Forwarding(client, echo.port) as forwarding:
            assert forwarding.local_port != echo.port
        with pytest.raises(UsageError, match=f"--local-port {echo.port}: Address already in use"):
            Forwarding(client, 6006, echo.port)


def test_forwarding_listens_on_loopback_only(echo: Echo) -> None:
    with fake_fleet("box"), Forwarding(SSHClient(SSHConfig("box")), 6006) as forwarding:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", forwarding.local_port), timeout=TIMEOUT)
        socket.create_connection(("127.0.0.1", forwarding.local_port), timeout=TIMEOUT).close()


def test_forward_task_reports_its_address_and_ends_on_a_signal(
    start: Start, write_hosts: WriteHosts, echo: Echo
) -> None:
    write_hosts(box={})
    command = ["forward", "--host=box", f"--port={echo.port}", "--to=127.0.0.1", "--json"]
    process = start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    answer = ask(told["local_port"], b"hello")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=TIMEOUT)

    assert (told["host_id"], told["port"], answer) == ("box", echo.port, b"HELLO")
    expected = f"forwarding 127.0.0.1:{told['local_port']} to 127.0.0.1:{echo.port}; press Ctrl-C"
    assert expected in said.decode()
    assert process.returncode == 143


@pytest.mark.parametrize("port", [None, "0", "65536", "http"])
def test_invalid_port_is_a_usage_error(inv: Inv, write_hosts: WriteHosts, port: str | None) -> None:
    write_hosts(box={})

    done = inv("forward", "--host", "box", *(["--port", port] if port else []))

    assert done.returncode == 2
    assert b"--port" in done.stderr


def bind_below_ephemeral_ports(other: socket.socket) -> int:
    """Bind to a port that no outgoing connection of a neighbour has on IPv4, and return it."""
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.socket() as ipv4:
            ipv4.bind(("127.0.0.1", port))
            other.bind(("::1", port))
            return port
    raise AssertionError("no free port")


def test_port_used_by_another_program_on_ipv6_is_not_shared() -> None:
    with socket.socket(socket.AF_INET6) as other, fake_fleet("box"):
        taken = bind_below_ephemeral_ports(other)
        other.listen()
        with Forwarding(SSHClient(SSHConfig("box")), taken) as forwarding:
            assert forwarding.local_port != taken
            for address in ("127.0.0.1", "::1"):
                socket.create_connection((address, forwarding.local_port), TIMEOUT).close()
        with pytest.raises(UsageError, match=f"--local-port {taken}: .*in use; without it"):
            Forwarding(SSHClient(SSHConfig("box")), 6006, taken)
        with socket.socket() as free:
            free.bind(("127.0.0.1", taken))  # nothing of the attempts is left
