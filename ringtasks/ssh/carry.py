"""Carry bytes between stdin and stdout and a connection, as a ProxyCommand does."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable

from ringtasks.common.descriptors import enlarge, move_all
from ringtasks.exit_status import UNREACHABLE

__all__ = ["carry", "go_on_separately"]

#: Seconds for the peer to close its end after stdin has ended; an SSH server closes at once.
_LAST_BYTES_TIMEOUT = 5.0


def go_on_separately() -> Callable[[], None]:
    """Continue in a child process; ssh waits for the process that it has started.

    :returns: a function for the child: the parent ends then, and stdin and stdout are released.
        If the child ends without it, the parent fails.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else UNREACHABLE)
    os.close(reading)

    def release() -> None:
        with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123  # pathlib is slow
            for descriptor in (0, 1):  # stderr stays: ssh closes it for a master in the background
                os.dup2(nothing.fileno(), descriptor)
        os.write(writing, b"\0")
        os.close(writing)

    return release


def carry(connection: socket.socket, stdin: int = 0, stdout: int = 1) -> None:
    """Return when the peer has closed the connection, or when stdin or stdout is closed.

    The connection's own time-outs are removed.
    """
    connection.setblocking(False)
    for descriptor in (stdin, stdout):
        enlarge(descriptor)
    is_over = threading.Event()
    for source, target, close in (
        (stdin, connection.fileno(), lambda: _half_close(connection, stdout, is_over)),
        (connection.fileno(), stdout, is_over.set),
    ):
        _start(source, target, close)
    is_over.wait()


def _start(source: int, target: int, close: Callable[[], None]) -> None:
    def run() -> None:
        try:
            with contextlib.suppress(OSError):  # an end is gone, which ends the connection too
                move_all(source, target)
        finally:
            close()

    threading.Thread(target=run, name="ringtasks-carry", daemon=True).start()


def _half_close(connection: socket.socket, stdout: int, is_over: threading.Event) -> None:
    """Tell the peer that no more bytes follow, and let it answer while stdout has a reader."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        is_over.set()
        return
    # A pipe without a reader, and a socket whose peer is closed, are reported without being asked.
    watch = select.poll()
    watch.register(stdout, 0)
    watch.poll(_LAST_BYTES_TIMEOUT * 1000)
    is_over.set()
