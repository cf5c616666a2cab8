"""A program on the host, over a control master: its streams are pipes given to the master.

The signs of its end (``mux.c``, ``clientloop.c``, measured with OpenSSH 9.2):

* An exit message carries the exit status.  Output may still follow it; the control connection
  ends after the last output.
* No exit message, and the master is gone: the link was lost, the outcome is unknown.
* No exit message, and the master answers: the host closed the channel without an exit status.  sshd
  does so when the process that it started was killed by a signal; the master drops the message that
  names the signal (``client_input_channel_req`` knows ``exit-status`` only).  It is reported as
  KILL.
* The same, and "exec request failed" on stderr: the host refused to start the program.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time

from ringtasks.errors import ProtocolError
from ringtasks.ssh.link import (
    KILLED_STATUS,
    STDERR,
    STDOUT,
    Exited,
    LinkLostError,
    NotStartedError,
    Output,
    SessionRefusedError,
    Terminal,
)
from ringtasks.ssh.sent_environment import for_master

from . import wire
from .control import Control, DeniedError, MasterGoneError
from .session_streams import SessionStreams
from .usage import MasterUse
from .wire import NewSession

__all__ = ["MuxSession"]

_CHUNK_BYTES = 256 * 1024
_LOOK_INTERVAL = 0.1  # seconds between checks for a closed session while its stdin is full
#: Seconds for a pipe to end once the master has let go of it: everything was written by then, but a
#: child that another thread forked at that moment may hold the other end.
_DRAIN_TIMEOUT = 1.0
# clientloop.c, client_status_confirm; up to about OpenSSH 9.3 with the channel's number.
_REFUSAL = rb"(exec|shell|subsystem) request failed(?: on channel \d+)?\r\n"


class MuxSession:
    """A `ringtasks.ssh.link.Session`; made by `open`."""

    def __init__(self, use: MasterUse, control: Control, streams: SessionStreams) -> None:
        self._use, self._control, self._streams = use, control, streams
        self._open_streams = dict(streams.outputs)
        self._wake_reader, self._wake_writer = streams.wake_pipe
        self._is_woken = False
        """True while a byte is in the wake pipe."""
        self._poll = select.poll()
        for descriptor in (*self._open_streams, control.fileno(), self._wake_reader):
            self._poll.register(descriptor, select.POLLIN)
        self._sending = threading.Lock()
        self._receiving = threading.RLock()
        self._closing = threading.Lock()
        self._is_closed = False
        self._heard_at = time.monotonic()
        self._is_over = False
        """True once the control connection has ended."""
        self._drained_by: float | None = None
        self._status: int | None = None
        self._refusal = b""
        self._lost: LinkLostError | None = None

    @classmethod
    def open(
        cls,
        use: MasterUse,
        control: Control,
        command: str | None,
        terminal: Terminal | None = None,
        piped: tuple[int, int] | None = None,
    ) -> MuxSession:
        """Start ``command`` (None: the login shell); the session owns ``use`` and ``control``.

        If the host does not open a channel in time, or the master ends meanwhile, the command may
        have been started: `receive` reports it.

        :param piped: descriptors for the program's stdin and stdout, instead of ours; the caller
            has to close them.
        :raises SessionRefusedError: the host opens no more sessions.
        :raises LinkLostError: the master is gone; the command was not started.
        """
        try:
            streams = SessionStreams(terminal, piped)
        except OSError as error:
            control.close()
            raise LinkLostError(f"no pipe for a session: {error.strerror}") from error
        session = cls(use, control, streams)
        request = NewSession(
            command or "",
            terminal_kind=terminal and terminal.kind,
            environment=for_master(os.environ),
            wants_agent=True,
        )
        try:
            control.request(wire.new_session, request, descriptors=streams.theirs)
            session._await_start()
        except BaseException as error:
            session.close()
            if isinstance(error, (OSError, ProtocolError)) and not isinstance(error, LinkLostError):
                raise LinkLostError(str(error)) from error
            raise
        return session

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        with self._sending:
            while rest:
                descriptor = self._input()
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except BlockingIOError:
                    self._await_room(descriptor)
                except OSError as error:
                    raise LinkLostError("the program has closed its stdin") from error

    def send_eof(self) -> None:
        with self._sending:
            self._streams.end_input()

    def receive(self, timeout: float | None) -> Output | Exited | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._receiving:
            while True:
                if self._is_closed:
                    raise LinkLostError("the session is closed")
                if self._lost is not None:
                    raise self._lost
                ready = self._wait(deadline)
                if self._wake_reader in ready:
                    self._silence_wake()
                    return None
                # First the master's messages: one may say that the output is of no use.
                for descriptor in sorted(ready, key=lambda ready: ready in self._open_streams):
                    happened = self._look_at(descriptor)
                    if self._lost is not None:
                        raise self._lost
                    if happened is not None:
                        return happened
                if self._has_ended():
                    return self._end()
                if not ready and deadline is not None and time.monotonic() >= deadline:
                    return None

    def wake(self) -> None:
        with self._closing:
            if not self._is_closed:
                self._wake()

    def resize(self, columns: int, rows: int) -> None:
        with self._closing:
            if self._is_closed or not self._streams.resize(columns, rows):
                return
        self._use.window_changed()

    def close(self) -> None:
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            self._wake()
        with self._receiving, self._sending:  # a thread that waits there looks, and leaves
            self._control.close()
            self._streams.close()
        self._use.end()

    def _await_start(self) -> None:
        self._streams.hand_over()
        try:
            self._control.await_session(self._use.timeout)
            self._note_received()
        except DeniedError as error:
            raise SessionRefusedError(str(error)) from error
        except (OSError, ProtocolError) as error:
            # The master may have requested the command, and ended before its answer.
            self._lost = LinkLostError(str(error))
        # Only now: the master has copied the terminal's modes for the host's terminal.
        self._streams.make_raw()

    def _input(self) -> int:
        if self._is_closed or self._streams.stdin is None:
            raise LinkLostError("the session is closed")
        return self._streams.stdin

    def _await_room(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        while not self._is_closed and not poll.poll(_LOOK_INTERVAL * 1000):
            pass

    def _wait(self, deadline: float | None) -> list[int]:
        """Wait for ready descriptors; none at the deadline, or when another check is due."""
        silence = self._use.silence_timeout
        silent_at = silence and self._heard_at + silence
        limits = [at for at in (deadline, self._drained_by, silent_at) if at is not None]
        remaining = max(0.0, min(limits) - time.monotonic()) * 1000 if limits else None
        ready = [descriptor for descriptor, _ in self._poll.poll(remaining)]
        now = time.monotonic()
        if ready:
            self._heard_at = now
        elif silent_at is not None and now >= silent_at and not self._is_over:
            if not self._use.is_master_alive():
                raise LinkLostError("the control master does not answer")
            self._heard_at = now
        return ready

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            os.write(self._wake_writer, b"\0")

    def _silence_wake(self) -> None:
        with self._closing:
            if self._is_woken and not self._is_closed:
                self._is_woken = False
                os.read(self._wake_reader, 1)

    def _look_at(self, descriptor: int) -> Output | None:
        stream = self._open_streams.get(descriptor)
        if stream is not None:
            return self._read(descriptor, stream)
        if not self._is_over:
            self._hear()
        return None

    def _read(self, descriptor: int, stream: int) -> Output | None:
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            self._poll.unregister(descriptor)
            del self._open_streams[descriptor]
            return Output(stream, b"") if stream == STDOUT else None
        if stream == STDERR:
            chunk, self._refusal = self._refusal + chunk, b""
            if re.fullmatch(_REFUSAL, chunk):
                self._refusal = chunk  # the master's text, unless more or an exit status follows
                return None
        return Output(stream, chunk)

    def _hear(self) -> None:
        """Read the master's next message about the session."""
        try:
            answer = self._control.receive()
        except (MasterGoneError, ProtocolError, OSError):
            self._is_over = True
            self._poll.unregister(self._control.fileno())
            self._drained_by = time.monotonic() + _DRAIN_TIMEOUT
            return
        if answer is not None:
            self._note(answer)
            self._note_received()

    def _note_received(self) -> None:
        """Take the messages that came with the last one: no descriptor becomes ready for them."""
        for answer in self._control.received():
            self._note(answer)

    def _note(self, answer: wire.Answer) -> None:
        if isinstance(answer, wire.ExitMessage):
            self._status = answer.status
        elif isinstance(answer, wire.TtyAllocFail):
            # The request for the command followed at once: its shell may run without a terminal.
            self._lost = NotStartedError("PTY allocation request failed", "pty-req")
        else:
            self._lost = LinkLostError(f"the control master said {answer}")

    def _has_ended(self) -> bool:
        if not self._is_over:
            return False
        is_late = self._drained_by is not None and time.monotonic() >= self._drained_by
        return is_late or not self._open_streams

    def _end(self) -> Output | Exited:
        if self._status is not None:
            if self._refusal:
                said, self._refusal = self._refusal, b""
                return Output(STDERR, said)
            return Exited(self._status)
        if self._refusal:
            refused = self._refusal.decode().strip()
            raise NotStartedError(refused, refused.split()[0])
        if not self._use.is_master_alive():
            raise LinkLostError("the connection is gone, and its control master with it")
        return Exited(KILLED_STATUS)
