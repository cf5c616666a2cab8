"""A dialled byte stream hands out what it has read, in its order and to the last byte."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ringtasks.ssh.stream import Stream
from tests.support.waiting import interrupted


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


@pytest.fixture(params=[socket.socketpair, tcp_pair], ids=["unix", "tcp"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Stream, socket.socket]]:
    ours, theirs = request.param()
    stream = Stream(ours)
    yield stream, theirs
    stream.close()
    theirs.close()


def test_chunks_of_any_size_form_the_whole_stream(ends: tuple[Stream, socket.socket]) -> None:
    stream, peer = ends
    sent = os.urandom(100_000)
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)

    received, sizes = b"", [1, 4, 16, 1000, 40_000]
    while piece := stream.recv(sizes[len(received) % len(sizes)]):
        received += piece

    assert received == sent


def test_no_chunk_is_larger_than_requested(ends: tuple[Stream, socket.socket]) -> None:
    stream, peer = ends
    peer.sendall(b"abcdef")

    assert [stream.recv(size) for size in (2, 3, 9)] == [b"ab", b"cde", b"f"]


def test_bytes_read_with_the_banner_precede_the_rest_of_the_stream(
    ends: tuple[Stream, socket.socket],
) -> None:
    stream, peer = ends
    peer.sendall(b"hello\r\nSSH-2.0\r\nrest")

    stream.await_banner(time.monotonic() + 10)

    received = b""
    while not received.endswith(b"rest"):
        received += stream.recv(99)
    assert received == b"hello\r\nSSH-2.0\r\nrest"


def test_signals_do_not_prolong_the_wait_for_a_banner(ends: tuple[Stream, socket.socket]) -> None:
    stream, _silent_peer = ends

    with interrupted(), pytest.raises(TimeoutError):
        stream.await_banner(time.monotonic() + 0.2)


def test_banner_is_awaited_on_a_descriptor_that_does_not_block() -> None:
    ours, peer = tcp_pair()
    ours.setblocking(False)
    stream = Stream(socket.socket(fileno=ours.detach()))
    late = threading.Timer(0.1, peer.sendall, [b"SSH-2.0\r\n"])
    late.start()

    stream.await_banner(time.monotonic() + 10)

    assert stream.recv(99) == b"SSH-2.0\r\n"
    late.join()
    stream.close()
    peer.close()


@pytest.mark.parametrize("seconds", [0.02, 1e-9])
def test_silent_peer_and_one_that_reads_nothing_end_a_wait(
    ends: tuple[Stream, socket.socket], seconds: float
) -> None:
    stream, peer = ends
    stream.settimeout(seconds)

    with pytest.raises(TimeoutError):
        stream.recv(9)
    with pytest.raises(TimeoutError):
        for _ in range(100_000):
            stream.send(bytes(1 << 16))

    stream.settimeout(None)
    peer.sendall(b"late")
    assert stream.recv(9) == b"late"
