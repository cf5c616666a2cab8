"""A dialled byte stream: what Paramiko takes for its socket.

It remembers when the peer was last heard, so that a peer that vanished is noticed (Paramiko sends
keepalives but never misses an answer), and holds back what was read while looking for the banner.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Stream", "acknowledge"]

_TCP_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only (tcp(7))

#: What is asked of the system at once. Paramiko asks twice for each packet, and while logging in
#: the packets are small and come together.
_READ_BYTES = 32 * 1024


def acknowledge(sock: socket.socket) -> None:
    """Acknowledge now what has arrived, where the system can; it does not last.

    sshd's first messages after the log-in are small, and Nagle's algorithm at its end holds each
    back until the one before is acknowledged: 40 ms with delayed acknowledgements, measured on
    loopback.
    """
    if _TCP_QUICKACK is not None:
        with contextlib.suppress(OSError):  # closed meanwhile by another thread
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 1)


class Stream:
    """A socket, or a Paramiko channel through a jump host, with a memory.

    :param on_close: called once, after the socket is closed (ends a proxy process, say).
    """

    def __init__(
        self, sock: Any, *, early: bytes = b"", on_close: Callable[[], None] | None = None
    ) -> None:
        self._sock = sock
        self._early, self._taken = early, 0
        self._on_close = on_close
        self._is_tcp = _is_tcp(sock)
        self._is_shared = False
        self.last_heard = time.monotonic()
        self._closed = False  # Paramiko's Transport looks at its socket's
        self.silence_limit: float | None = None
        """Seconds without a byte after which the peer counts as gone; None: no limit."""
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes, ``b""`` at the end.

        :raises TimeoutError: nothing within the time set by `settimeout`.
        :raises ConnectionAbortedError: nothing within ``silence_limit``.
        """
        if self._early:
            early = self._early[self._taken : self._taken + size]
            self._taken += len(early)
            if self._taken == len(self._early):
                self._early, self._taken = b"", 0
            return early
        try:
            received: bytes = self._sock.recv(max(size, _READ_BYTES))
        except TimeoutError:
            self._check_silence()
            raise
        self.last_heard = time.monotonic()
        if self._is_tcp:
            acknowledge(self._sock)
        if len(received) > size:
            self._early, self._taken = received, size
            return received[:size]
        return received

    def peek(self, size: int) -> bytes:
        """As `recv`, but what it returns stays; ``b""`` also where that cannot be done."""
        if not self._is_tcp or self._early:
            return b""
        there: bytes = self._sock.recv(size, socket.MSG_PEEK)
        return there

    def share(self) -> socket.socket | None:
        """The bare TCP connection, for another process; to `close` is then to leave it to that.

        None: it is no TCP connection, or some of it was read already.
        """
        if not self._is_tcp or self._early:
            return None
        self._is_shared = True
        shared: socket.socket = self._sock.dup()
        return shared

    def unread(self, received: bytes) -> None:
        """Give back what was read too early."""
        self._early, self._taken = received + self._early[self._taken :], 0

    def send(self, data: bytes) -> int:
        """Send some of ``data``; the number of bytes taken."""
        sent: int = self._sock.send(data)
        return sent

    def settimeout(self, timeout: float | None) -> None:
        """Seconds that `recv` and `send` may wait; None: for ever."""
        self._sock.settimeout(timeout)

    def getsockname(self) -> Any:
        """This end's address, as Fabric's users may ask of ``transport.sock``."""
        return self._sock.getsockname()

    def getpeername(self) -> Any:
        """The peer's address, for logs."""
        return self._sock.getpeername()

    def close(self) -> None:
        """Close the socket and what carries it. Safe to repeat, from any thread."""
        self._closed = True
        if not self._is_shared:
            with contextlib.suppress(OSError, AttributeError):
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in recv
        with contextlib.suppress(OSError, EOFError):  # a channel whose jump host is gone already
            self._sock.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _check_silence(self) -> None:
        if self.silence_limit is None:
            return
        silence = time.monotonic() - self.last_heard
        if silence > self.silence_limit:
            # With an errno: Paramiko's thread takes OSErrors apart and expects one.
            raise ConnectionAbortedError(
                errno.ECONNABORTED, f"the peer has been silent for {silence:.0f} s"
            )


def _is_tcp(sock: Any) -> bool:
    family = getattr(sock, "family", None)
    return family in (socket.AF_INET, socket.AF_INET6)
