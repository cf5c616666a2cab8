"""The in-process link: sessions over Paramiko channels of a `Connection`."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from ringtasks.common.light_typing import Protocol
from ringtasks.common.processor import Company
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.remote.script import encode
from ringtasks.ssh.link import (
    STDERR,
    STDOUT,
    Exited,
    LinkLostError,
    NoSFTPError,
    NotStartedError,
    Output,
    SessionRefusedError,
    Terminal,
    TunnelRefusedError,
)
from ringtasks.ssh.paramiko_private import ask_channel

from .agent_forwarding import forward_agent

__all__ = ["InProcessLink"]

#: Paramiko's exceptions for a lost link.
_LINK_ERRORS = (paramiko.SSHException, EOFError, OSError)
_CHUNK_BYTES = 256 * 1024
_LOOK_INTERVAL = 0.1  # seconds between checks of the link
#: Seconds between checks for the exit status of a program that has closed its output and runs on.
_STATUS_INTERVAL = 1.0


class LogInConnection(Protocol):
    """The part of `Connection` that a link needs."""

    ssh: SSHConfig
    ssh_config: Mapping[str, Any]
    transport: Any
    forward_agent: bool

    @property
    def transport_used(self) -> str | None: ...

    @property
    def is_connected(self) -> bool: ...

    def open(self) -> Any: ...

    def close(self) -> None: ...


class InProcessLink:
    """A `ringtasks.ssh.link.Link` over a `Connection`."""

    def __init__(self, connection: LogInConnection) -> None:
        """Open the connection if it is not open.

        :raises UnreachableError: no route worked.
        """
        self.connection = connection
        self._sessions = 0
        self._has_ended = threading.Condition()
        self.company = Company(lambda: self.connection.transport)
        connection.open()

    @property
    def route(self) -> str:
        return self.connection.transport_used or ""

    def is_alive(self) -> bool:
        return bool(self.connection.is_connected)

    def open_session(
        self,
        command: str | None,
        terminal: Terminal | None = None,
        *,
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> _InProcessSession:
        deadline = self._deadline(timeout)
        with _WHILE_OPENING, self._opened_channel(deadline) as channel:
            channel.update_environment(environment or {})
            if terminal is not None:
                size = (terminal.columns, terminal.rows, 0, 0)
                _ask(channel, "pty-req", terminal.kind, *size, "")
                _await_answer(channel, "pty-req", deadline)
            # Do not wait for the answer: the program's stdin can follow at once, which saves a
            # round trip, and `_InProcessSession` checks the answer if no exit status comes.
            if command is None:
                _ask(channel, "shell")
            else:
                _ask(channel, "exec", encode(command))
        request = "shell" if command is None else "exec"
        return _InProcessSession(channel, request, self._session_ended)

    def await_session_end(self, timeout: float) -> bool:
        with self._has_ended:
            if self._sessions:
                self._has_ended.wait(timeout)
                return True
        return False

    def open_sftp(self, *, timeout: float | None = None) -> paramiko.SFTPClient:
        deadline = self._deadline(timeout)
        with _Translated("no SFTP"), self._opened_channel(deadline) as channel:
            return self._sftp_over(channel, deadline)

    def _deadline(self, timeout: float | None) -> float:
        """Return the time, by `time.monotonic`, until which the host may take to answer."""
        limit = self.connection.ssh.connect_timeout
        return time.monotonic() + (limit if timeout is None else min(limit, timeout))

    def _sftp_over(self, channel: Any, deadline: float) -> paramiko.SFTPClient:
        from ringtasks.ssh.sftp_client import SFTPClient, started  # for transfers alone

        try:
            _ask(channel, "subsystem", "sftp")
            _await_answer(channel, "subsystem sftp", deadline)
            client: SFTPClient = started(channel, deadline, SFTPClient)
            client.on_close = self._session_ended
            return client
        except NotStartedError as error:
            raise NoSFTPError(b"", str(error)) from error
        except NoSFTPError as error:
            if not self.is_alive():
                raise LinkLostError("the connection was closed") from error
            raise

    def open_tunnel(self, host: str, port: int) -> paramiko.Channel:
        with _Translated("no tunnel"):
            try:
                channel: paramiko.Channel = self.connection.transport.open_channel(
                    "direct-tcpip",
                    (host, port),
                    ("127.0.0.1", 0),
                    timeout=self.connection.ssh.connect_timeout,
                )
            except paramiko.ChannelException as error:
                raise TunnelRefusedError(str(error.text or error)) from error
        return channel

    @contextlib.contextmanager
    def _opened_channel(self, deadline: float) -> Iterator[Any]:
        """Yield a new channel, which counts as a session; if the block fails, it is closed."""
        with self._has_ended:
            self._sessions += 1
        channel = None
        try:
            channel = self._open_channel(max(0.0, deadline - time.monotonic()))
            yield channel
        except BaseException:
            if channel is not None:
                channel.close()
            self._session_ended()
            raise

    def _open_channel(self, timeout: float) -> Any:
        transport = self.connection.transport
        try:
            channel = transport.open_session(timeout=timeout)
            if self.connection.forward_agent:
                forward_agent(channel, self.connection.ssh_config)
            return channel
        except paramiko.SSHException as error:
            # Paramiko keeps a refusal for the first thread that asks; another one that was
            # refused at the same time gets only this text.
            is_refused = isinstance(error, paramiko.ChannelException) or (
                transport.is_active() and str(error) == "Unable to open channel."
            )
            if is_refused:
                raise SessionRefusedError("the host opens no more sessions") from error
            raise

    def _session_ended(self) -> None:
        with self._has_ended:
            self._sessions -= 1
            self._has_ended.notify()

    def close(self) -> None:
        with contextlib.suppress(*_LINK_ERRORS):
            self.connection.close()


class _InProcessSession:
    """A `ringtasks.ssh.link.Session` over a channel."""

    def __init__(
        self, channel: paramiko.Channel, request: str, on_close: Callable[[], None]
    ) -> None:
        self._channel, self._request = channel, request
        self._on_close: Callable[[], None] | None = on_close
        self._bell = _Bell()
        self._pending: list[Output] = []
        self._is_stdout_open = True
        self._is_woken = False
        # Paramiko's thread fills these buffers; they set the bell, which saves polling.
        buffers: Any = channel
        buffers.in_buffer.set_event(self._bell)
        buffers.in_stderr_buffer.set_event(self._bell)

    def send(self, data: bytes) -> None:
        with _WHILE_SENDING:
            self._channel.sendall(data)

    def send_eof(self) -> None:
        with _WHILE_SENDING:
            self._channel.shutdown_write()

    def receive(self, timeout: float | None) -> Output | Exited | None:
        self._bell.clear_before_looking()
        if self._is_woken:
            self._is_woken = False
            return None
        if not self._pending:
            self._collect()
        if not self._pending and not self._has_ended():
            if not self._await_bell(timeout):
                return None
            self._bell.clear_before_looking()
            self._collect()
        if self._pending:
            return self._pending.pop(0)
        return self._end() if self._has_ended() else None

    def wake(self) -> None:
        self._is_woken = True  # kept, since a starting `receive` clears the bell
        self._bell.set()

    def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(*_LINK_ERRORS):
            self._channel.resize_pty(columns, rows)

    def close(self) -> None:
        with contextlib.suppress(*_LINK_ERRORS):  # a lost link has closed it already
            self._channel.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _collect(self) -> None:
        channel = self._channel
        with _WHILE_READING:  # reading tells the host that there is room
            if channel.recv_ready():
                self._pending.append(Output(STDOUT, channel.recv(_CHUNK_BYTES)))
            if channel.recv_stderr_ready():
                self._pending.append(Output(STDERR, channel.recv_stderr(_CHUNK_BYTES)))
        if self._is_stdout_open and channel.eof_received and not channel.recv_ready():
            self._is_stdout_open = False
            self._pending.append(Output(STDOUT, b""))

    def _await_bell(self, timeout: float | None) -> bool:
        """Wait for the bell; False: ``timeout`` passed.  An exit status alone does not ring it."""
        channel = self._channel
        left = math.inf if timeout is None else timeout
        deadline = time.monotonic() + left
        while not self._bell.wait(min(max(0.0, left), _STATUS_INTERVAL)):
            if channel.eof_received and channel.status_event.is_set():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
        return True

    def _has_ended(self) -> bool:
        """Return True if all output was collected, and the exit status is known.

        A program may close its output and run on: the exit status, or the end of the channel, comes
        when it ends (RFC 4254 sections 5.3 and 6.10).
        """
        channel = self._channel
        is_over = channel.closed or (channel.eof_received and channel.status_event.is_set())
        return bool(is_over) and not channel.recv_ready() and not channel.recv_stderr_ready()

    def _end(self) -> Exited:
        channel: Any = self._channel
        if channel.exit_status >= 0:
            return Exited(channel.exit_status)
        transport = channel.get_transport()
        # This is Paramiko's record of the host's last answer to a request.
        if transport.is_active() and not channel.event_ready:
            raise NotStartedError(f"{self._request} request failed", self._request)
        error = transport.get_exception()
        raise LinkLostError(str(error or "") or "the connection was closed")


class _Translated:
    """Translates Paramiko's errors to ours in its block; ``otherwise``: the text if they have none.

    A class, which costs a third of a generator: each command enters it eight times.
    """

    def __init__(self, otherwise: str) -> None:
        self._otherwise = otherwise

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_ours = isinstance(error, LinkLostError | NoSFTPError | TunnelRefusedError)
        if isinstance(error, _LINK_ERRORS) and not is_ours:
            raise LinkLostError(str(error) or self._otherwise) from error


_WHILE_OPENING = _Translated("no session could be opened")
_WHILE_SENDING = _Translated("the channel is closed")
_WHILE_READING = _Translated("the connection was closed")


def _ask(channel: Any, kind: str, *fields: bytes | str | int) -> None:
    """Send a channel request that requires an answer (RFC 4254 sections 5.4 and 6)."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(True)
    for value in fields:
        message.add_int(value) if isinstance(value, int) else message.add_string(value)
    ask_channel(channel, message)


def _await_answer(channel: Any, kind: str, deadline: float) -> None:
    """Wait for the answer to `_ask`.

    Paramiko's own methods wait without a limit, and for ever if the link is lost just before.
    """
    transport = channel.get_transport()
    while not channel.event.wait(_LOOK_INTERVAL):
        if not transport.is_active() or time.monotonic() > deadline:
            raise LinkLostError(f"no answer to the request {kind!r}")
    if not channel.event_ready:
        raise NotStartedError(f"{kind} request failed", kind)


class _Bell(threading.Event):
    """An event that either of two buffers sets, and that only its listener clears.

    Each buffer would clear an Event of its own when it runs empty, and so lose the other's signal.
    """

    def clear(self) -> None:
        """Do nothing; a buffer calls this when it runs empty."""

    def clear_before_looking(self) -> None:
        if self.is_set():
            super().clear()
