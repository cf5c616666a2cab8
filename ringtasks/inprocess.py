"""The in-process link: sessions over Paramiko channels of a `Connection`."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from .connection import Connection
from .link import STDERR, STDOUT, Exited, LinkLostError, Output, Terminal
from .script import encode

__all__ = ["InProcessLink"]

#: What Paramiko raises where the link is gone.
_LINK_ERRORS = (paramiko.SSHException, EOFError, OSError)
_CHUNK_BYTES = 256 * 1024
_LOOK_INTERVAL = 0.1  # seconds between looks at whether the link is still there
_STATUS_TIMEOUT = 5.0  # seconds between the end of the output and the exit status


class InProcessLink:
    """Meets `ringtasks.link.Link`."""

    def __init__(self, connection: Connection) -> None:
        """:raises UnreachableError: no route worked (the connection is opened if it is not)."""
        self.connection = connection
        connection.open()

    @property
    def route(self) -> str:
        return self.connection.transport_used or ""

    def is_alive(self) -> bool:
        return bool(self.connection.is_connected)

    def open_session(self, command: str | None, terminal: Terminal | None = None) -> _Session:
        try:
            timeout = self.connection.ssh.connect_timeout
            channel = self.connection.transport.open_session(timeout=timeout)
            if terminal is not None:
                size = (terminal.columns, terminal.rows, 0, 0)
                _request(channel, timeout, "pty-req", terminal.kind, *size, "")
            if command is None:
                _request(channel, timeout, "shell")
            else:
                _request(channel, timeout, "exec", encode(command))
        except _LINK_ERRORS as error:
            raise LinkLostError(str(error) or "no session could be opened") from error
        return _Session(channel)

    def open_sftp(self) -> paramiko.SFTPClient:
        timeout = self.connection.ssh.connect_timeout
        try:
            channel = self.connection.transport.open_session(timeout=timeout)
            _request(channel, timeout, "subsystem", "sftp")
            return paramiko.SFTPClient(channel)
        except _LINK_ERRORS as error:
            raise LinkLostError(str(error) or "no SFTP") from error

    def close(self) -> None:
        with contextlib.suppress(*_LINK_ERRORS):
            self.connection.close()


class _Session:
    """Meets `ringtasks.link.Session`."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._bell = _Bell()
        self._pending: list[Output] = []
        self._is_woken = False
        # Paramiko's thread fills these buffers; being woken by them costs no polling.
        buffers: Any = channel
        buffers.in_buffer.set_event(self._bell)
        buffers.in_stderr_buffer.set_event(self._bell)

    def send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except _LINK_ERRORS as error:
            raise LinkLostError(str(error)) from error

    def send_eof(self) -> None:
        try:
            self._channel.shutdown_write()
        except _LINK_ERRORS as error:
            raise LinkLostError(str(error)) from error

    def receive(self, timeout: float | None) -> Output | Exited | None:
        self._bell.clear_before_looking()
        if self._is_woken:
            self._is_woken = False
            return None
        if not self._pending:
            self._collect()
        if not self._pending and not self._has_ended():
            if not self._bell.wait(timeout):
                return None
            self._bell.clear_before_looking()
            self._collect()
        if self._pending:
            return self._pending.pop(0)
        return self._end() if self._has_ended() else None

    def wake(self) -> None:
        self._is_woken = True  # kept: the bell alone would be silenced by a `receive` that begins
        self._bell.set()

    def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(*_LINK_ERRORS):
            self._channel.resize_pty(columns, rows)

    def close(self) -> None:
        with contextlib.suppress(*_LINK_ERRORS):  # a dead link has closed it already
            self._channel.close()

    def _collect(self) -> None:
        channel = self._channel
        if channel.recv_ready():
            self._pending.append(Output(STDOUT, channel.recv(_CHUNK_BYTES)))
        if channel.recv_stderr_ready():
            self._pending.append(Output(STDERR, channel.recv_stderr(_CHUNK_BYTES)))

    def _has_ended(self) -> bool:
        """Whether the output is at its end, and all of it was collected."""
        channel = self._channel
        is_over = channel.eof_received or channel.closed
        return bool(is_over) and not channel.recv_ready() and not channel.recv_stderr_ready()

    def _end(self) -> Exited:
        self._channel.status_event.wait(_STATUS_TIMEOUT)
        if self._channel.exit_status < 0:
            error = self._channel.get_transport().get_exception()
            raise LinkLostError(str(error) if error else "it ended without an exit status")
        return Exited(self._channel.exit_status)


def _request(channel: Any, timeout: float, kind: str, *fields: bytes | str | int) -> None:
    """A channel request and its answer (RFC 4254 sections 5.4 and 6).

    Paramiko's own methods wait without a limit, and for ever where the link dies just before.
    """
    transport = channel.get_transport()
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(True)
    for value in fields:
        message.add_int(value) if isinstance(value, int) else message.add_string(value)
    channel._event_pending()
    transport._send_user_message(message)
    deadline = time.monotonic() + timeout
    while not channel.event.wait(_LOOK_INTERVAL):
        if not transport.is_active() or time.monotonic() > deadline:
            raise LinkLostError(f"no answer to the request {kind!r}")
    if not channel.event_ready:
        raise LinkLostError(f"the host refuses the request {kind!r}")


class _Bell:
    """Rung by either of two buffers; only its listener silences it.

    Each buffer would clear an Event of its own when it runs empty, and lose the other's ring.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """What a buffer calls: of no effect."""

    def wait(self, timeout: float | None) -> bool:
        return self._event.wait(timeout)

    def clear_before_looking(self) -> None:
        self._event.clear()
