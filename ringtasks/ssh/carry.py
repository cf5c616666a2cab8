"""Carry bytes between stdin and stdout and a connection, as a ProxyCommand does.

Bytes are not copied where one side is a pipe (splice(2)); elsewhere large buffers make the copies
cheap beside ssh's encryption.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import threading
from collections.abc import Callable

from ringtasks.exit_status import UNREACHABLE

__all__ = ["carry", "go_on_separately"]

#: The most that one system call moves, and the size of the pipes (64 KiB unless changed, pipe(7)).
_CHUNK_BYTES = 256 * 1024
#: Seconds for the peer to close its end after stdin has ended; an SSH server closes at once.
_LAST_BYTES_TIMEOUT = 5.0
_HAS_SPLICE = hasattr(os, "splice")  # Linux only
_F_SETPIPE_SZ = 1031  # fcntl(2), of Linux only


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
    connection.setblocking(False)  # splice(2) would lock a pipe while it waits for the connection
    for descriptor in (stdin, stdout):
        _enlarge(descriptor)
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
            _move_all(source, target)
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


def _move_all(source: int, target: int) -> None:
    """Move bytes until the source ends or the target is closed."""
    with contextlib.suppress(OSError):  # an end is gone, which ends the connection too
        has_pipe = any(stat.S_ISFIFO(os.fstat(end).st_mode) for end in (source, target))
        if not (_HAS_SPLICE and has_pipe and _splice_all(source, target)):
            _copy_all(source, target)


def _splice_all(source: int, target: int) -> bool:
    """Move bytes between a socket and a pipe without copying them; False: they have to be copied.

    splice(2) locks the pipe while it waits for the socket, and ssh would wait for the lock.  So it
    is called only if there is something to move, and never waits.
    """
    arrival, room = _watch(source, select.POLLIN), _watch(target, select.POLLOUT)
    while True:
        arrival.poll()
        try:
            if not os.splice(source, target, _CHUNK_BYTES, flags=os.SPLICE_F_NONBLOCK):
                return True
        except BlockingIOError:
            room.poll()
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):  # such as a pipe in append mode
                return False
            raise


def _copy_all(source: int, target: int) -> None:
    arrival, room = _watch(source, select.POLLIN), _watch(target, select.POLLOUT)
    # One buffer: memory of this size, asked for anew, would be mapped and cleared by the system.
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while True:
        arrival.poll()
        with contextlib.suppress(BlockingIOError):
            rest = buffer[: os.readv(source, [buffer])]
            if not rest:
                return
            while rest:
                room.poll()
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(target, rest) :]


def _watch(descriptor: int, event: int) -> select.poll:
    watch = select.poll()
    watch.register(descriptor, event)
    return watch


def _enlarge(descriptor: int) -> None:
    """Enlarge a pipe to the size that one call moves, if the system and its limits allow it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _CHUNK_BYTES)
