"""Move bytes between file descriptors of any kind, blocking or not.

Bytes are not copied where one side is a pipe (splice(2)); elsewhere large buffers make the copies
cheap beside ssh's encryption.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat

__all__ = ["CHUNK_BYTES", "enlarge", "move_all", "write_all"]

#: The most that one system call moves, and the size of the pipes (64 KiB unless changed, pipe(7)).
CHUNK_BYTES = 256 * 1024
_HAS_SPLICE = hasattr(os, "splice")  # Linux only
_F_SETPIPE_SZ = 1031  # fcntl(2), of Linux only


def enlarge(descriptor: int) -> None:
    """Enlarge a pipe to the size that one call moves, if the system and its limits allow it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, CHUNK_BYTES)


def move_all(source: int, target: int) -> None:
    """Move bytes until the source ends.

    A socket has to be non-blocking: splice(2) locks the pipe while it waits for the socket, and
    another process that uses the pipe, such as ssh, would wait for the lock.

    :raises OSError: an end is gone.
    """
    has_pipe = any(stat.S_ISFIFO(os.fstat(end).st_mode) for end in (source, target))
    if not (_HAS_SPLICE and has_pipe and _splice_all(source, target)):
        _copy_all(source, target)


def write_all(target: int, data: bytes | memoryview) -> None:
    """Write bytes, and wait for room where the descriptor is non-blocking.

    :raises OSError: the descriptor cannot be written.
    """
    rest, room = memoryview(data), _watch(target, select.POLLOUT)
    while rest:
        try:
            rest = rest[os.write(target, rest) :]
        except BlockingIOError:
            room.poll()


def _splice_all(source: int, target: int) -> bool:
    """Move bytes between a socket and a pipe without copying them; False: they have to be copied.

    The call is made only if there is something to move, and never waits.
    """
    arrival, room = _watch(source, select.POLLIN), _watch(target, select.POLLOUT)
    while True:
        arrival.poll()
        try:
            if not os.splice(source, target, CHUNK_BYTES, flags=os.SPLICE_F_NONBLOCK):
                return True
        except BlockingIOError:
            room.poll()
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):  # such as a pipe in append mode
                return False
            raise


def _copy_all(source: int, target: int) -> None:
    arrival = _watch(source, select.POLLIN)
    # One buffer: memory of this size, asked for anew, would be mapped and cleared by the system.
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while True:
        arrival.poll()
        with contextlib.suppress(BlockingIOError):
            chunk = buffer[: os.readv(source, [buffer])]
            if not chunk:
                return
            write_all(target, chunk)


def _watch(descriptor: int, event: int) -> select.poll:
    watch = select.poll()
    watch.register(descriptor, event)
    return watch
