"""A socket whose other end the master has, as the channel of an SFTP client.

It blocks in the kernel (``SO_RCVTIMEO``), not in Python: then one call receives a whole answer,
while Python's own time limits would need one call for each piece that the master writes.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from ringtasks.ssh.link import LinkLostError

from .control import Control

__all__ = ["SFTPStream"]

_BUFFER_BYTES = 1024 * 1024


class SFTPStream:
    """The channel of Paramiko's SFTP client; made by `pair`.

    :ivar transport: what `get_transport` returns; None: it is no part of a `Connection`.
    """

    def __init__(
        self,
        sock: socket.socket,
        control: Control,
        is_master_alive: Callable[[], bool],
        on_close: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._control = control
        self._is_master_alive = is_master_alive
        self._on_close: Callable[[], None] | None = on_close
        self._sending = threading.Lock()
        self._timeout: float | None = None
        self._is_lost = False
        self.closed = False
        self.transport: Any = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"an SFTP channel over a control master has no {name!r}: set use_control_master to "
            "false for this host, and it is a paramiko.Channel"
        )

    @classmethod
    def pair(
        cls, control: Control, is_master_alive: Callable[[], bool], on_close: Callable[[], None]
    ) -> tuple[SFTPStream, socket.socket]:
        """Return a stream, and its end for the master. The stream owns ``control`` from now on."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        return cls(ours, control, is_master_alive, on_close), theirs

    def send(self, data: bytes) -> int:
        """Send all of ``data``."""
        self.send_parts(data)
        return len(data)

    def send_parts(self, *parts: bytes | memoryview) -> None:
        """Send one message; concurrent senders do not mix theirs in.

        :raises LinkLostError: the master does not answer any more.
        :raises OSError: the other end is closed.
        """
        with self._sending:
            left = [memoryview(part) for part in parts]
            while left:
                if self._is_lost:
                    self._check_master()
                try:
                    sent = self._sock.sendmsg(left)
                except BlockingIOError:
                    self._check_master()
                    continue
                except OSError as error:
                    self._check_open(error)
                    self._check_master()
                    raise
                while left and sent >= len(left[0]):
                    sent -= len(left.pop(0))
                if left:
                    left[0] = left[0][sent:]

    def recv(self, size: int) -> bytes:
        """Receive up to ``size`` bytes, ``b""`` at the end."""
        return self._received(size, 0)

    def recv_exactly(self, size: int) -> bytes:
        """Receive exactly ``size`` bytes.

        :raises EOFError: the host has ended the session.
        :raises LinkLostError: the connection is gone.
        """
        received = self._received(size, socket.MSG_WAITALL) if size else b""
        while len(received) < size:
            more = self._received(size - len(received), socket.MSG_WAITALL)
            if not more:
                self._check_master()
                raise EOFError("the SFTP session has ended")
            received += more
        return received

    def recv_ready(self) -> bool:
        """Return True if bytes are ready to be received."""
        with contextlib.suppress(BlockingIOError):
            return bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    def settimeout(self, timeout: float | None) -> None:
        """Set the seconds without a byte after which the stream checks that the master answers.

        The host may take its time: the master watches it.
        """
        self._timeout = timeout
        seconds = timeout or 0.0  # socket(7): 0 means no limit
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, limit)

    def gettimeout(self) -> float | None:
        return self._timeout

    def get_name(self) -> str:
        """Return the name for Paramiko's log."""
        return "mux"

    def get_transport(self) -> Any:
        return self.transport

    def getpeername(self) -> Any:
        return self.transport.getpeername()

    def fileno(self) -> int:
        """Return the descriptor, to be waited on until bytes can be received."""
        return self._sock.fileno()

    @property
    def active(self) -> bool:
        """True until the channel is closed, or the master is found to be gone."""
        return not (self.closed or self._is_lost)

    @property
    def eof_received(self) -> bool:
        """True if no more bytes will come."""
        with contextlib.suppress(BlockingIOError, OSError):
            return not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return self.closed

    def exit_status_ready(self) -> bool:
        """Return True if the SFTP server has ended."""
        return self.eof_received

    def close(self) -> None:
        """End the session. Safe to repeat, from any thread."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in recv
        self._sock.close()
        self._control.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _received(self, size: int, flags: int) -> bytes:
        while True:
            if self._is_lost:
                self._check_master()
            try:
                return self._sock.recv(size, flags)
            except BlockingIOError:
                self._check_master()
            except OSError as error:
                self._check_open(error)
                raise

    def _check_open(self, error: OSError) -> None:
        """Raise without an errno if our descriptor is closed: that is no error of a host's file."""
        if self.closed:
            raise OSError("Socket is closed") from error

    def _check_master(self) -> None:
        """Check the master; once it is gone, do not ask again, since each check takes its time."""
        if self._is_lost or not self._is_master_alive():
            self._is_lost = True
            raise LinkLostError("the control master does not answer")
