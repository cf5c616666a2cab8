"""A dialogue with a control master over its Unix socket.

Each side begins with a hello, and the other side's hello is checked before any other message.
Every request has an id that its answer must carry, and every wait has a limit.  Anything unexpected
ends the dialogue.

Time limits are the socket's own (socket(7), SO_RCVTIMEO), but in the main thread: Python's cost two
more system calls for each message, and two more contentions for the interpreter lock in a run on
many hosts.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ringtasks.common.fork import not_for_children
from ringtasks.errors import ProtocolError

from . import wire
from .records import Master
from .wire import Answer

__all__ = ["ANSWER_TIMEOUT", "Control", "DeniedError", "MasterGoneError", "answer_of", "answers"]

_RECEIVE_BYTES = 64 * 1024
#: Seconds to send a request: a socket's buffer takes it at once, unless the master is stopped.
_SEND_TIMEOUT = 5.0
#: Seconds for a master to answer; none of its work takes longer than a millisecond.
ANSWER_TIMEOUT = 1.5
#: Seconds for a master that is not stopped: it may wait for a processor among hundreds.
_BUSY_TIMEOUT = 10.0
_NO_ANSWER = "the control master does not answer"
#: Seconds for which a refused connection is repeated: macOS and the BSDs refuse one if the backlog
#: is full, too (mux.c: 64). On Linux a refusal means that no process listens.
_REFUSAL_LIMIT = 0.0 if sys.platform == "linux" else 0.5
_REFUSAL_DELAY = 0.02  # seconds between tries; a master that runs accepts all that wait

_A = TypeVar("_A", wire.Ok, wire.Alive, wire.SessionOpened)


class MasterGoneError(ConnectionError):
    """No process listens on the socket, or the master has ended the dialogue."""


class DeniedError(Exception):
    """The master refused a request; the text is its reason."""


class Control:
    """A dialogue; made by `connect`. For one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = wire.Frames()
        self._last_request_id = -1
        self._greeting = wire.hello()
        """The bytes that precede the first request."""
        self._is_greeted = False

    @classmethod
    def connect(cls, path: str | os.PathLike[str], timeout: float) -> Control:
        """Connect to the master behind a socket; the first request shows whether it answers.

        :param timeout: seconds.
        :raises MasterGoneError: no process listens there (any more).
        :raises TimeoutError: the master accepts no connection.
        """
        refused_until = time.monotonic() + min(timeout, _REFUSAL_LIMIT)
        while True:
            try:
                return cls(_connected(os.fspath(path), timeout))
            except BlockingIOError as error:  # unix(7): the backlog is full (mux.c: 64)
                raise TimeoutError(_NO_ANSWER) from error
            except (ConnectionError, FileNotFoundError) as error:
                is_refused = isinstance(error, ConnectionRefusedError)
                if not is_refused or time.monotonic() >= refused_until:
                    raise MasterGoneError("no process listens on the control socket") from error
            time.sleep(_REFUSAL_DELAY)

    def fileno(self) -> int:
        return self._sock.fileno()

    def is_open(self) -> bool:
        """Return True if the master holds the dialogue; never waits. Not for an open session."""
        try:
            while self._fill(socket.MSG_DONTWAIT):
                pass
        except (MasterGoneError, ProtocolError):
            return False
        return True

    def alive(self, timeout: float) -> int:
        """Return the master's process id.

        :raises MasterGoneError: it has ended.
        :raises TimeoutError: it does not answer.
        :raises ProtocolError: the listener is not a master, or is one of another version.
        """
        deadline = time.monotonic() + timeout
        self.request(wire.alive_check, timeout=timeout)
        return self._await_answer(wire.Alive, deadline).pid

    def request(
        self,
        encode: Callable[..., bytes],
        *fields: Any,
        descriptors: Sequence[int] = (),
        timeout: float = _SEND_TIMEOUT,
    ) -> None:
        """Send a request; the answer is awaited separately.

        Before the last descriptor is sent, the request cannot have been carried out.

        :param encode: a function of `wire`; its first argument is the request's id.
        :raises ValueError: the protocol cannot express the request.
        """
        self._last_request_id += 1
        request = encode(self._last_request_id, *fields)
        _set_limit(self._sock, socket.SO_SNDTIMEO, time.monotonic() + timeout)
        try:
            self._sock.sendall(self._greeting + request)
            self._greeting = b""
            # Until it has the last descriptor, a master serves no other client (monitor_fdpass.c,
            # mm_receive_fd), so nothing runs between these calls. It reads no byte beyond the
            # request, so that each descriptor comes with the one byte it is sent with.
            for descriptor in descriptors:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
                self._sock.sendmsg([b"\0"], [rights])
        except BlockingIOError as error:
            raise TimeoutError(_NO_ANSWER) from error
        except ConnectionError as error:
            raise MasterGoneError("the control master is gone") from error

    def await_session(self, timeout: float) -> int:
        """Return the id of the requested session.

        :raises DeniedError: the host opens no session; nothing was started.
        :raises MasterGoneError: the program may or may not have been started.
        :raises TimeoutError: the program may or may not have been started.
        """
        return self._await_answer(wire.SessionOpened, time.monotonic() + timeout).session_id

    def terminate(self, timeout: float) -> None:
        """End the master and its sessions."""
        # "exit happens too soon - message never makes it to client" (mux.c).
        with contextlib.suppress(MasterGoneError):
            self.request(wire.terminate, timeout=timeout)
            self._await_answer(wire.Ok, time.monotonic() + timeout)

    def receive(self) -> Answer | None:
        """Return the next message of an open session, if one has arrived; never waits.

        :raises MasterGoneError: the dialogue is over.
        """
        answer = self._frames.next()
        if answer is None and self._fill(socket.MSG_DONTWAIT):
            answer = self._frames.next()
        return answer

    def received(self) -> Iterator[Answer]:
        """Yield the messages that have arrived together with an earlier one."""
        while (answer := self._frames.next()) is not None:
            yield answer

    def close(self) -> None:
        """End the dialogue, and a session over it. Safe to repeat."""
        self._sock.close()

    def _take_hello(self, deadline: float) -> None:
        answer = self._next_answer(deadline)
        if not isinstance(answer, wire.Hello):
            raise _unexpected(answer)
        if answer.version != wire.VERSION:
            raise ProtocolError("control master", f"version {answer.version} of the protocol")
        self._is_greeted = True

    def _await_answer(self, kind: type[_A], deadline: float) -> _A:
        if not self._is_greeted:
            self._take_hello(deadline)
        answer = self._next_answer(deadline)
        if getattr(answer, "request_id", None) == self._last_request_id:
            if isinstance(answer, wire.Refused):
                raise DeniedError(answer.reason)
            if isinstance(answer, kind):
                return answer
        raise _unexpected(answer)

    def _next_answer(self, deadline: float) -> Answer:
        while (answer := self._frames.next()) is None:
            if not self._fill_by(deadline):
                raise TimeoutError(_NO_ANSWER)
        return answer

    def _fill_by(self, deadline: float) -> bool:
        if threading.current_thread() is not threading.main_thread():
            _set_limit(self._sock, socket.SO_RCVTIMEO, deadline)
            return self._fill()
        # Signals interrupt this thread. Python then repeats recv(2), with the socket's whole limit;
        # of poll(2) it repeats the rest.
        arrival = select.poll()
        arrival.register(self._sock, select.POLLIN)
        milliseconds = max(0.0, deadline - time.monotonic()) * 1000
        return bool(arrival.poll(milliseconds)) and self._fill(socket.MSG_DONTWAIT)

    def _fill(self, flags: int = 0) -> bool:
        """Return True if bytes arrived."""
        try:
            received = self._sock.recv(_RECEIVE_BYTES, flags)
        except BlockingIOError:
            return False
        except ConnectionError as error:
            raise MasterGoneError("the control master is gone") from error
        if not received:
            if not self._frames.is_between:
                raise ProtocolError("control master", "it ended in the middle of a message")
            raise MasterGoneError("the control master has closed its socket")
        self._frames.feed(received)
        return True


def answers(master: Master) -> bool:
    """Return True if it answers; takes up to `_BUSY_TIMEOUT` seconds."""
    control = answer_of(master)
    if control is not None:
        control.close()
    return control is not None


def answer_of(master: Master) -> Control | None:
    """Return a dialogue with a master that has answered; None if it does not."""
    patient_until = time.monotonic() + _BUSY_TIMEOUT
    while True:
        control: Control | None = None
        try:
            control = Control.connect(master.socket, ANSWER_TIMEOUT)
            if control.alive(ANSWER_TIMEOUT) != master.pid:
                raise MasterGoneError("another process listens there")
            answered, control = control, None
            return answered
        except TimeoutError:
            from .processes import is_stopped

            # A master that is not stopped may wait for a processor, among hundreds of others.
            if is_stopped(master.pid) or time.monotonic() >= patient_until:
                return None
        except (OSError, ProtocolError, DeniedError):
            return None
        finally:
            if control is not None:
                control.close()


def _connected(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    not_for_children(sock)  # the master ends a session when the last copy is closed
    try:
        _set_limit(sock, socket.SO_SNDTIMEO, time.monotonic() + timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def _set_limit(sock: socket.socket, option: int, deadline: float) -> None:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError(_NO_ANSWER)
    microseconds = max(1, int(remaining * 1_000_000))  # 0 would mean no limit
    value = struct.pack("@ll", *divmod(microseconds, 1_000_000))  # struct timeval
    sock.setsockopt(socket.SOL_SOCKET, option, value)


def _unexpected(answer: Answer) -> ProtocolError:
    return ProtocolError("control master", f"an unexpected {answer}")
