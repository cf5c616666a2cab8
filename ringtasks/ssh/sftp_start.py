"""The start of an SFTP session: verify that an SFTP server answers.

The first packet of a server is its version (draft-ietf-secsh-filexfer-02 section 4).  Text in its
place comes from a forced command, or from a login file: sshd starts a server program
(``Subsystem``, unless it is ``internal-sftp``) through the user's login shell.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.sftp import CMD_INIT, CMD_VERSION

from .link import NoSFTPError

__all__ = ["ProvenStart", "started"]

_HEAD = struct.Struct(">IBI")
"""The packet's length without itself, its type, the version."""
_PROTOCOL_VERSION = 3
#: More than the names of all extensions need.
_MAX_PACKET_BYTES = 64 * 1024
_EVIDENCE_BYTES = 4096


class ProvenStart:
    """A base class of an SFTP client, to be named before Paramiko's."""

    sock: Any

    def start_version(self) -> int:
        """Return the server's version; Paramiko calls it when a client is made.

        :raises NoSFTPError: no server answers.
        """
        client: Any = self
        message = paramiko.Message()
        message.add_int(_PROTOCOL_VERSION)
        # A program that ends at once may close the channel before this; its output tells more.
        with contextlib.suppress(OSError, EOFError):
            client.send_packet(CMD_INIT, message)
        head = self._received(_HEAD.size)
        size, kind, version = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
        if kind != CMD_VERSION or not 5 <= size <= _MAX_PACKET_BYTES:
            raise NoSFTPError((head + self._at_hand()).partition(b"\0")[0])  # text has no NUL
        extensions = self._received(size - 5)
        if len(extensions) < size - 5:
            raise NoSFTPError(b"")
        return int(version)

    def _received(self, size: int) -> bytes:
        """Receive ``size`` bytes, or fewer at any kind of end."""
        received = b""
        with contextlib.suppress(OSError, EOFError):
            while len(received) < size and (more := self.sock.recv(size - len(received))):
                received += more
        return received

    def _at_hand(self) -> bytes:
        """Return more of the bytes that have already arrived."""
        with contextlib.suppress(OSError, EOFError):
            return bytes(self.sock.recv(_EVIDENCE_BYTES)) if self.sock.recv_ready() else b""
        return b""


def started(channel: Any, timeout: float, kind: Callable[[Any], Any]) -> Any:
    """Return the client ``kind(channel)`` if its server answers within ``timeout`` seconds.

    :raises NoSFTPError: no server answers.
    """
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        channel.close()

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        return kind(channel)
    except NoSFTPError as error:
        if is_late.is_set() and not error.said:
            raise NoSFTPError(b"", f"no answer in {timeout:g} s") from error
        raise
    finally:
        timer.cancel()
