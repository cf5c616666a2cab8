"""Wait for the banner of an SSH server (RFC 4253 section 4.2)."""

from __future__ import annotations

import time

from .stream import Stream

__all__ = ["NotSSHError", "await_banner"]

#: The RFC sets no bound on the lines before the banner; a server that sends more is not SSH.
_LIMIT_BYTES = 64 * 1024


class NotSSHError(ConnectionError):
    """The peer does not speak SSH; the text is its answer."""


def await_banner(stream: Stream, deadline: float) -> None:
    """Return when a line that starts with ``SSH-`` has arrived; the stream keeps it.

    :raises TimeoutError: no banner by the (monotonic) deadline.
    :raises NotSSHError: the peer sent other text and closed, or sent too much of it.
    :raises EOFError: the peer closed without a byte.
    :raises OSError: the connection broke.
    """
    received = b""
    while not (received.startswith(b"SSH-") or b"\nSSH-" in received):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("no SSH banner")
        stream.settimeout(remaining)
        if not received and stream.peek(4096).startswith(b"SSH-"):
            break  # nearly always; the banner stays in the socket, also for another process
        part = stream.recv(4096)
        received += part
        if not part and not received:
            raise EOFError("closed before the SSH banner")
        if not part or len(received) > _LIMIT_BYTES:
            raise NotSSHError(_first_line(received))
    stream.settimeout(None)
    if received:
        stream.unread(received)


def _first_line(received: bytes) -> str:
    return received.splitlines()[0][:80].decode("utf-8", "replace")
