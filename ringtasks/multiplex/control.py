"""One conversation with a control master over its Unix socket.

The hellos are exchanged before a `Control` exists.  Every request has an id that its answer must
bear, and every wait has a limit.  Anything unexpected ends the conversation.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from typing import TypeVar

from ..errors import ProtocolError
from . import wire
from .wire import Answer, Forward, NewSession

__all__ = ["Control", "DeniedError", "MasterGoneError"]

_RECEIVE_BYTES = 64 * 1024
#: Seconds between tries while a master has more callers than it can accept at once.
_BACKLOG_INTERVAL = 0.005

_A = TypeVar("_A", wire.Ok, wire.Alive, wire.SessionOpened)


class MasterGoneError(ConnectionError):
    """Nobody listens on the socket, or the master has ended the conversation."""


class DeniedError(Exception):
    """The master would not do what it was asked; the text is its reason."""


class Control:
    """A conversation; made by `connect`. For one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = wire.Frames()
        self._last_request_id = -1

    @classmethod
    def connect(cls, path: str | os.PathLike[str], timeout: float) -> Control:
        """Say hello to the master behind a socket.

        :param timeout: seconds for the whole of it.
        :raises MasterGoneError: nobody is there (any more).
        :raises TimeoutError: the master does not answer.
        :raises ProtocolError: it is no master, or one of another version.
        """
        deadline = time.monotonic() + timeout
        control = cls(_connected(os.fspath(path), deadline))
        try:
            control._exchange_hellos(deadline)
        except BaseException:
            control.close()
            raise
        return control

    def fileno(self) -> int:
        return self._sock.fileno()

    def alive(self, timeout: float) -> int:
        """The master's process id."""
        return self._ask(wire.alive_check(self._next_id()), wire.Alive, timeout).pid

    def send_new_session(self, session: NewSession, descriptors: Sequence[int]) -> None:
        """Ask for a program with these for its stdin, stdout and stderr: see `await_session`.

        Up to the last descriptor the program cannot have been started.

        :raises ValueError: the request cannot be said in the protocol.
        """
        self._send_with(wire.new_session(self._next_id(), session), descriptors)

    def send_stdio_forward(self, host: str, port: int, descriptors: Sequence[int]) -> None:
        """Ask for a TCP connection from the host, with two descriptors for its ends."""
        self._send_with(wire.new_stdio_forward(self._next_id(), host, port), descriptors)

    def await_session(self, timeout: float) -> int:
        """The id of the session that was asked for.

        :raises DeniedError: the host opens no session; nothing was started.
        :raises MasterGoneError: it may or may not have been started.
        :raises TimeoutError: as above.
        """
        return self._await_answer(wire.SessionOpened, time.monotonic() + timeout).session_id

    def open_forward(self, forward: Forward, timeout: float) -> None:
        """Let the master listen on a port of this machine.

        :raises DeniedError: it cannot: the port is taken, say. A master does not tell why.
        """
        self._ask(wire.open_forward(self._next_id(), forward), wire.Ok, timeout)

    def close_forward(self, forward: Forward, timeout: float) -> None:
        """Close what `open_forward` opened.

        :raises DeniedError: there is no such forward.
        """
        self._ask(wire.close_forward(self._next_id(), forward), wire.Ok, timeout)

    def stop_listening(self, timeout: float) -> None:
        """Let the master remove its socket; its sessions go on."""
        self._ask(wire.stop_listening(self._next_id()), wire.Ok, timeout)

    def terminate(self, timeout: float) -> None:
        """End the master and its sessions."""
        # "exit happens too soon - message never makes it to client" (mux.c).
        with contextlib.suppress(MasterGoneError):
            self._ask(wire.terminate(self._next_id()), wire.Ok, timeout)

    def receive(self) -> Answer | None:
        """The next message of an open session, if one is here; never waits.

        :raises MasterGoneError: the conversation is over.
        """
        answer = self._frames.next()
        if answer is None:
            self._sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self._fill()
            answer = self._frames.next()
        return answer

    def close(self) -> None:
        """End the conversation, and a session over it. Safe to repeat."""
        self._sock.close()

    def _exchange_hellos(self, deadline: float) -> None:
        self._send(wire.hello(), deadline)
        answer = self._next_answer(deadline)
        if not isinstance(answer, wire.Hello):
            raise _unexpected(answer)
        if answer.version != wire.VERSION:
            raise ProtocolError("control master", f"version {answer.version} of the protocol")

    def _next_id(self) -> int:
        self._last_request_id += 1
        return self._last_request_id

    def _ask(self, request: bytes, kind: type[_A], timeout: float) -> _A:
        deadline = time.monotonic() + timeout
        self._send(request, deadline)
        return self._await_answer(kind, deadline)

    def _await_answer(self, kind: type[_A], deadline: float) -> _A:
        answer = self._next_answer(deadline)
        if isinstance(answer, (wire.Hello, wire.ExitMessage, wire.TtyAllocFail)):
            raise _unexpected(answer)
        if answer.request_id != self._last_request_id:
            raise _unexpected(answer)
        if isinstance(answer, (wire.Denied, wire.Failure)):
            raise DeniedError(answer.reason)
        if not isinstance(answer, kind):
            raise _unexpected(answer)
        return answer

    def _next_answer(self, deadline: float) -> Answer:
        while (answer := self._frames.next()) is None:
            self._sock.settimeout(_remaining(deadline))
            self._fill()
        return answer

    def _fill(self) -> None:
        try:
            received = self._sock.recv(_RECEIVE_BYTES)
        except ConnectionError as error:
            raise MasterGoneError("the control master is gone") from error
        if not received:
            if not self._frames.is_between:
                raise ProtocolError("control master", "it ended in the middle of a message")
            raise MasterGoneError("the control master has ended the conversation")
        self._frames.feed(received)

    def _send(self, request: bytes, deadline: float) -> None:
        self._sock.settimeout(_remaining(deadline))
        try:
            self._sock.sendall(request)
        except ConnectionError as error:
            raise MasterGoneError("the control master is gone") from error

    def _send_with(self, request: bytes, descriptors: Sequence[int]) -> None:
        # Until it has the last descriptor, a master serves nobody else (monitor_fdpass.c,
        # mm_receive_fd): there is nothing between these calls. It reads no byte beyond the
        # request, so that each descriptor comes with the one byte it is sent with.
        deadline = time.monotonic() + _SEND_TIMEOUT
        self._send(request, deadline)
        for descriptor in descriptors:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
            try:
                self._sock.sendmsg([b"\0"], [rights])
            except ConnectionError as error:
                raise MasterGoneError("the control master is gone") from error


#: Seconds to hand over a request: a socket's buffer takes it at once, unless the master is stopped.
_SEND_TIMEOUT = 5.0


def _connected(path: str, deadline: float) -> socket.socket:
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_remaining(deadline))
            sock.connect(path)
        except OSError as error:
            sock.close()
            if error.errno == errno.EAGAIN:
                # unix(7): more wait to be accepted than fit (mux.c: 64). Python's time limit makes
                # the socket non-blocking, so that the kernel does not wait for us.
                time.sleep(min(_BACKLOG_INTERVAL, _remaining(deadline)))
                continue
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET):
                raise MasterGoneError("nobody listens on the control socket") from error
            raise
        return sock


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the control master does not answer")
    return remaining


def _unexpected(answer: Answer) -> ProtocolError:
    return ProtocolError("control master", f"an unexpected {answer}")
