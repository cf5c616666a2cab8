"""Bytes between stdin, stdout and a connection, as ssh and a server exchange them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

PROGRAM = "import socket; from ringtasks.ssh.carry import carry; carry(socket.socket(fileno={}))"


def start(connection: socket.socket, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    number = connection.fileno()
    argv = [sys.executable, "-c", PROGRAM.format(number)]
    return subprocess.Popen(argv, stdin=stdin, stdout=stdout, pass_fds=[number])


def echo(peer: socket.socket) -> None:
    """Send all back, and receive nothing while the other side takes nothing, as a server does."""
    with peer:
        while chunk := peer.recv(65536):
            peer.sendall(chunk)


def send(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def pipe() -> tuple[int, int]:
    return os.pipe()


def socket_pair() -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


@pytest.mark.parametrize("ends", [pipe, socket_pair])
def test_both_directions_are_carried_whole_at_the_same_time(
    ends: Callable[[], tuple[int, int]],
) -> None:
    content = os.urandom(1 << 20) * 16
    (stdin, ours), (theirs, stdout) = ends(), ends()
    connection, peer = socket.socketpair()
    process = start(connection, stdin, stdout)
    for descriptor in (stdin, stdout, connection.detach()):
        os.close(descriptor)
    threading.Thread(target=echo, args=[peer], daemon=True).start()
    threading.Thread(target=send, args=[ours, content], daemon=True).start()

    with os.fdopen(theirs, "rb") as stream:
        got = stream.read()

    assert got == content
    assert process.wait(20) == 0


def test_carrying_ends_with_the_peer() -> None:
    connection, peer = socket.socketpair()
    (stdin, ours), (theirs, stdout) = pipe(), pipe()
    process = start(connection, stdin, stdout)

    peer.close()
    connection.close()

    assert process.wait(20) == 0
    for end in (stdin, ours, theirs, stdout):
        os.close(end)
