"""A dialled byte stream: the socket that Paramiko uses.

It waits for the banner of an SSH server (RFC 4253 section 4.2), keeps the bytes that were read with
it, and records the time of the last byte from the peer, so that a vanished peer is noticed:
Paramiko sends keepalives but never misses an answer.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

__all__ = ["NotSSHError", "Stream", "acknowledge"]

_TCP_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only (tcp(7))

#: Bytes requested from the system at once. Paramiko asks twice for each packet, and during the
#: log-in the packets are small and arrive together.
_READ_BYTES = 32 * 1024
#: The RFC sets no bound on the lines before the banner; a server that sends more is not SSH.
_MOST_BEFORE_BANNER_BYTES = 64 * 1024
#: The line with which a server begins; it has at most 255 bytes.  RFC 4253, section 4.2
_BANNER = re.compile(rb"^SSH-.*\n", re.MULTILINE)
_PEEKED_BYTES = 255
#: Seconds for the rest of a banner that has begun to come, and between two looks for it.
_PEEK_TIME, _PEEK_INTERVAL = 1.0, 0.01


class NotSSHError(ConnectionError):
    """The peer does not speak SSH; the text is its answer."""


def acknowledge(sock: socket.socket) -> None:
    """Acknowledge the received bytes now, if the system can; it has no lasting effect.

    sshd's first messages after the log-in are small, and Nagle's algorithm on its side holds each
    back until the previous one is acknowledged: 40 ms with delayed acknowledgements, measured on
    loopback.
    """
    if _TCP_QUICKACK is not None:
        with contextlib.suppress(OSError):  # another thread has closed it meanwhile
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 1)


class Stream:
    """A socket, or a Paramiko channel through a jump host, with a buffer of bytes read early.

    :param on_close: called once, after the socket is closed (for example to end a proxy process).
    """

    def __init__(self, sock: Any, *, on_close: Callable[[], None] | None = None) -> None:
        self._sock = sock
        self._early, self._taken = b"", 0
        self._on_close = on_close
        self._is_tcp = _is_tcp(sock)
        self._is_shared = False
        self.last_heard = time.monotonic()
        self._closed = False  # Paramiko's Transport reads this attribute of its socket
        self.silence_limit: float | None = None
        """Seconds without a byte after which the peer counts as gone; None: no limit."""
        if self._is_tcp:
            sock.settimeout(None)  # a descriptor that another module has opened may not block
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, size: int) -> bytes:
        """Receive up to ``size`` bytes, ``b""`` at the end.

        :raises TimeoutError: no byte within the time set by `settimeout`.
        :raises ConnectionAbortedError: no byte within ``silence_limit``.
        """
        if self._early:
            early = self._early[self._taken : self._taken + size]
            self._taken += len(early)
            if self._taken == len(self._early):
                self._early, self._taken = b"", 0
            return early
        try:
            received: bytes = _in_time(self._sock.recv, max(size, _READ_BYTES))
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

    def await_banner(self, deadline: float) -> None:
        """Return when a whole line that starts with ``SSH-`` has arrived; `recv` returns it again.

        :raises TimeoutError: no banner by the (monotonic) deadline.
        :raises NotSSHError: the peer sent other text and closed, or sent too much of it.
        :raises EOFError: the peer closed without a byte, or within its banner.
        :raises OSError: the connection broke.
        """
        received = b""
        peek_until = min(deadline, time.monotonic() + _PEEK_TIME)
        while not _BANNER.search(received):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("no SSH banner")
            # Python's limit: with the system's, each signal would begin the wait anew.
            self._sock.settimeout(remaining)
            seen = b"" if received else self._seen()
            if _BANNER.match(seen):
                break  # nearly always; the banner stays in the socket, also for another process
            if seen.startswith(b"SSH-") and time.monotonic() < peek_until:
                time.sleep(_PEEK_INTERVAL)  # only its beginning has come
                continue
            part = self.recv(4096)
            received += part
            if not part and (not received or received.startswith(b"SSH-")):
                raise EOFError("closed before the end of the SSH banner")
            if not part or len(received) > _MOST_BEFORE_BANNER_BYTES:
                raise NotSSHError(received.splitlines()[0][:80].decode("utf-8", "replace"))
        self.settimeout(None)
        self._early, self._taken = received + self._early[self._taken :], 0

    def _seen(self) -> bytes:
        """Return the first bytes, which stay in the socket; empty if it cannot be peeked into."""
        can_peek = self._is_tcp and not self._early
        return _in_time(self._sock.recv, _PEEKED_BYTES, socket.MSG_PEEK) if can_peek else b""

    def share(self) -> socket.socket | None:
        """Return the bare TCP connection for another process; `close` then leaves it open.

        None: it is not a TCP connection, or some bytes were already read from it.
        """
        if not self._is_tcp or self._early:
            return None
        self._is_shared = True
        shared: socket.socket = self._sock.dup()
        return shared

    def taken_over(self) -> tuple[bytes, socket.socket]:
        """Return the bytes that were read early, and the socket, to be used without this object.

        :raises TypeError: it is a channel of Paramiko's, which has no descriptor of its own.
        """
        if not isinstance(self._sock, socket.socket):
            raise TypeError("a channel has no socket of its own")
        early, self._early, self._taken = self._early[self._taken :], b"", 0
        return early, self._sock

    def breaker(self) -> Callable[[], None]:
        """Return a function that breaks the connection, also if another process has taken it over.

        It has a descriptor of its own until it is called.
        """
        if not isinstance(self._sock, socket.socket):
            return self.close
        own = self._sock.dup()

        def break_off() -> None:
            with own, contextlib.suppress(OSError):  # the peer has closed it already
                own.shutdown(socket.SHUT_RDWR)

        return break_off

    def send(self, data: bytes) -> int:
        """Send a part of ``data``; return the number of bytes sent."""
        sent: int = _in_time(self._sock.send, data)
        return sent

    def settimeout(self, timeout: float | None) -> None:
        """Set the seconds that `recv` and `send` may wait; None: no limit."""
        if not (self._is_tcp and _limited(self._sock, timeout)):
            self._sock.settimeout(timeout)

    def getsockname(self) -> Any:
        """Return this end's address, for users of Fabric's ``transport.sock``."""
        return self._sock.getsockname()

    def getpeername(self) -> Any:
        """Return the peer's address, for logs."""
        return self._sock.getpeername()

    def close(self) -> None:
        """Close the socket and its carrier. Safe to repeat, from any thread."""
        if self._closed:
            return
        self._closed = True
        if not self._is_shared:
            with contextlib.suppress(OSError, AttributeError):
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in recv
        with contextlib.suppress(OSError, EOFError):  # a channel whose jump host is already gone
            self._sock.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _check_silence(self) -> None:
        if self.silence_limit is None:
            return
        silence = time.monotonic() - self.last_heard
        if silence > self.silence_limit:
            # With an errno, since Paramiko's thread unpacks OSErrors and expects one.
            raise ConnectionAbortedError(
                errno.ECONNABORTED, f"the peer has been silent for {silence:.0f} s"
            )


def _is_tcp(sock: Any) -> bool:
    family = getattr(sock, "family", None)
    return family in (socket.AF_INET, socket.AF_INET6)


def _limited(sock: socket.socket, timeout: float | None) -> bool:
    """Let the system limit each recv and send (socket(7)); False: it does not.

    For its own limit Python calls poll(2) before each of them, which lets another thread run.
    """
    whole, fraction = divmod(timeout or 0.0, 1)
    limit = struct.pack("ll", int(whole), int(fraction * 1_000_000))
    if timeout is not None and not any(limit):  # which would be no limit
        return False
    try:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, limit)
    except OSError:
        return False
    if sock.gettimeout() is not None:
        sock.settimeout(None)
    return True


def _in_time(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except BlockingIOError as error:  # the system's limit (EAGAIN)
        raise TimeoutError("timed out") from error
