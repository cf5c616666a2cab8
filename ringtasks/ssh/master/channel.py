"""The part of Paramiko's Transport and Channel that Fabric calls, over a link.

With it a ``fabric.Connection`` runs its commands and shells over a control master: its runner
reads the two streams from two threads, and polls from a third whether the command has ended.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import paramiko
from paramiko.buffered_pipe import BufferedPipe, PipeTimeout

from ringtasks.common.program_name import as_typed
from ringtasks.common.threads import start_thread
from ringtasks.ssh.link import (
    STDERR,
    STDOUT,
    Exited,
    LinkLostError,
    NoSFTPError,
    NotStartedError,
    Session,
    SessionRefusedError,
    Terminal,
)
from ringtasks.ssh.session_limit import when_there_is_room

from ..link import Link

__all__ = ["Channel", "Sessions"]

_paramikos: Any = paramiko.channel  # its stubs lack a class, and know no other channel
_CONNECT_FAILED = 2  # RFC 4254 section 5.1: sshd's answer beyond MaxSessions
#: Unread bytes of one stream at which reading stops, so that the program blocks.
_LIMIT_BYTES = 4 * 1024 * 1024

_Opened = TypeVar("_Opened")


class Sessions:
    """The part of ``paramiko.Transport`` that Fabric uses for commands.

    All other attributes come from another Transport, so that code for Fabric finds them.

    :param timeout: seconds for a session to open, also if the host has no room for it yet.
    :param in_process: opens the `InProcessLink` with that Transport at its first use; None: there
        is none.
    """

    def __init__(
        self, link: Link, timeout: float, in_process: Callable[[], Any] | None = None
    ) -> None:
        self.link = link
        self._timeout, self._in_process = timeout, in_process

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._in_process is None:
            raise AttributeError(name)
        return getattr(self._in_process().connection.transport, name)

    @property
    def active(self) -> bool:
        """True if the link is believed to be up."""
        return self.link.is_alive()

    def is_active(self) -> bool:
        return self.active

    def is_authenticated(self) -> bool:
        return self.active

    def open_session(self, *args: Any, **options: Any) -> Any:
        """Return a ``paramiko.Channel`` of the other Transport, with all that callers may use.

        Without one: a channel of `channel`.
        """
        if self._in_process is None:
            return self.channel()
        return self._in_process().connection.transport.open_session(*args, **options)

    def channel(self) -> Channel:
        """Return a channel; its session is requested once its command or shell is known."""
        return Channel(self.link, self._timeout, self._in_process)

    def close(self) -> None:
        """Close the link; a control master goes on."""
        self.link.close()

    def open_sftp(self) -> Any:
        """Open an SFTP client.

        :raises SSHException: the host offers no SFTP, or opens no more sessions.
        """
        try:
            with _in_paramikos_words():
                client = _open(self.link, self.link.open_sftp, self._timeout)
        except paramiko.ChannelException:
            raise
        except (paramiko.SSHException, NoSFTPError) as error:
            told = f"{error}: the host may offer no SFTP, which '{as_typed('put')}' can do without"
            raise paramiko.SSHException(told) from error
        if isinstance(client, paramiko.SFTPClient):  # a fake one has no channel
            stream: Any = client.sock
            stream.transport = self
        return client


class Channel:
    """The part of ``paramiko.Channel`` that Fabric's runners use."""

    def __init__(
        self, link: Link, timeout: float, in_process: Callable[[], Any] | None = None
    ) -> None:
        self._link, self._in_process = link, in_process
        self._environment: dict[str, str] = {}
        self._open_timeout = timeout
        self._read_timeout: float | None = None
        self._terminal: Terminal | None = None
        self._session: Session | None = None
        self._buffers = {STDOUT: BufferedPipe(), STDERR: BufferedPipe()}
        self._has_room = threading.Condition()
        self._is_closed = False
        self._has_ended = threading.Event()
        self._status = -1  # Paramiko's value for "no exit status came"
        self._refusal: NotStartedError | None = None

    def __getattr__(self, name: str) -> Any:
        told = f"a channel over a control master has no {name!r}"
        if hasattr(paramiko.Channel, name):
            told += "; Connection.transport.open_session() opens one of Paramiko, which has"
        raise AttributeError(told, name=name, obj=self)

    def get_pty(self, term: str = "vt100", width: int = 80, height: int = 24) -> None:
        self._terminal = Terminal(term, width, height)

    def update_environment(self, environment: dict[str, str]) -> None:
        """Set variables of the session, which then opens in process.

        A master sends only the variables that its ``SendEnv`` names.
        """
        self._environment.update(environment)

    def set_environment_variable(self, name: str, value: str) -> None:
        self.update_environment({name: value})

    def exec_command(self, command: str) -> None:
        """Start a command.

        :raises ChannelException: the host opens no more sessions.
        :raises SSHException: the link is gone; the command has not started.
        """
        self._start(command)

    def invoke_shell(self) -> None:
        self._start(None)

    def recv(self, byte_count: int) -> bytes:
        return self._read(STDOUT, byte_count)

    def recv_stderr(self, byte_count: int) -> bytes:
        return self._read(STDERR, byte_count)

    def recv_ready(self) -> bool:
        return self._is_ready(STDOUT)

    def recv_stderr_ready(self) -> bool:
        return self._is_ready(STDERR)

    def makefile(self, *mode_and_size: Any) -> Any:
        """Return the program's stdout and stdin as a file."""
        return _paramikos.ChannelFile(self, *mode_and_size)

    def makefile_stderr(self, *mode_and_size: Any) -> Any:
        return _paramikos.ChannelStderrFile(self, *mode_and_size)

    def makefile_stdin(self, *mode_and_size: Any) -> Any:
        return _paramikos.ChannelStdinFile(self, *mode_and_size)

    def send(self, text: str | bytes) -> int:
        self.sendall(text)
        return len(text)

    def sendall(self, text: str | bytes) -> None:
        try:
            self._running().send(text.encode() if isinstance(text, str) else text)
        except LinkLostError as error:  # also of a session that has ended, whose link is well
            raise OSError(str(error)) from error

    def shutdown_write(self) -> None:
        self._running().send_eof()

    def resize_pty(self, width: int = 80, height: int = 24) -> None:
        self._running().resize(width, height)

    def settimeout(self, timeout: float | None) -> None:
        self._read_timeout = timeout

    def gettimeout(self) -> float | None:
        return self._read_timeout

    def setblocking(self, blocking: bool) -> None:
        self.settimeout(None if blocking else 0.0)

    @property
    def closed(self) -> bool:
        return self._is_closed

    def exit_status_ready(self) -> bool:
        return self._has_ended.is_set()

    def recv_exit_status(self) -> int:
        """Return the exit status; -1 if the link was lost before it came.

        :raises SSHException: the host would not start the command.
        """
        self._has_ended.wait()
        if self._refusal is not None:
            raise paramiko.SSHException(str(self._refusal)) from self._refusal
        return self._status

    def close(self) -> None:
        with self._has_room:
            self._is_closed = True
            self._has_room.notify_all()
        if self._session is not None:
            self._session.close()
        self._end()

    def _is_ready(self, stream: int) -> bool:
        buffer: Any = self._buffers[stream]
        return bool(buffer.read_ready())

    def _start(self, command: str | None) -> None:
        link: Any = self._link
        options: dict[str, Any] = {}
        if self._environment and self._in_process is not None:
            link, options = self._in_process(), {"environment": self._environment}
        with _in_paramikos_words():
            start = functools.partial(link.open_session, command, self._terminal, **options)
            session = _open(link, start, self._open_timeout)
        self._session = session
        start_thread(self._pump, session, name="ringtasks-channel")

    def _running(self) -> Session:
        if self._session is None:
            raise OSError("nothing was started on this channel")
        return self._session

    def _pump(self, session: Session) -> None:
        try:
            while not self._is_closed:
                happened = session.receive(None)
                if isinstance(happened, Exited):
                    self._status = happened.status
                    return
                if happened is not None:
                    self._keep(happened.stream, happened.chunk)
        except NotStartedError as error:
            self._refusal = error
        except LinkLostError:
            pass  # the status of -1 says that no exit status came
        finally:
            self._end()

    def _keep(self, stream: int, chunk: bytes) -> None:
        buffer: Any = self._buffers[stream]
        with self._has_room:
            while len(buffer) >= _LIMIT_BYTES and not self._is_closed:
                self._has_room.wait()
        buffer.feed(chunk)

    def _read(self, stream: int, byte_count: int) -> bytes:
        try:
            chunk: Any = self._buffers[stream].read(byte_count, self._read_timeout)
        except PipeTimeout as error:
            raise TimeoutError("nothing came") from error
        with self._has_room:
            self._has_room.notify_all()
        return bytes(chunk)

    def _end(self) -> None:
        for buffer in self._buffers.values():
            buffer.close()
        self._has_ended.set()


@contextlib.contextmanager
def _in_paramikos_words() -> Iterator[None]:
    """Translate the link's errors to Paramiko's, which Fabric's users know."""
    try:
        yield
    except SessionRefusedError as error:
        raise paramiko.ChannelException(_CONNECT_FAILED, str(error)) from error
    except LinkLostError as error:
        raise paramiko.SSHException(str(error)) from error


def _open(link: Link, open_: Callable[..., _Opened], timeout: float) -> _Opened:
    """Open a session; if the host has no room, wait for it up to ``timeout`` seconds."""
    return when_there_is_room(link, open_, deadline=time.monotonic() + timeout)
