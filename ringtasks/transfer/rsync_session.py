"""A local program whose "remote shell" is a session over the client's link.

rsync starts `remote_shell`, which hands over its ends of rsync's pipes and ends; a session on the
host is opened with them as its stdin and stdout.  If the link can do so (`PipingLink`), no bytes of
rsync pass through this process.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO

from ringtasks.client.operation import LimitedWork
from ringtasks.common.capture import CapturedOutput
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.threads import start_thread
from ringtasks.errors import UsageError
from ringtasks.remote.marks import NoMarkError
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import STDERR, Link, LinkLostError, NotStartedError

from . import remote_shell
from .fd_session import FdSession

__all__ = ["REMOTE_SHELL", "Piped"]

#: The program's setting for the remote shell, with `%d` for the socket's number.
_REMOTE_SHELL = f'"{sys.executable}" -I -S "{remote_shell.__file__}" %d'
#: Stands for `_REMOTE_SHELL` in the arguments of a `Piped`.
REMOTE_SHELL = "\0remote shell"

_HANDOVER_TIMEOUT = 10.0  # seconds for the remote shell to send the rest of its message
_END_TIMEOUT = 60.0  # seconds for the host's program to end after the local one has succeeded
_CLEANUP_TIMEOUT = 5.0  # seconds for a program to end by itself after a request
_CHUNK_BYTES = 256 * 1024
_UNKNOWN_STATUS = 255  # the status of ssh's own errors
_MAX_STDERR_BYTES = 64 * 1024

#: A longer line, as no name makes it, loses its beginning.
_MAX_LINE_BYTES = 1024 * 1024
#: The error after that.
_NO_END = "the copy ended here, but not on the host: run it again: it copies what is missing"
#: rsync writes line by line: waking for each of 20,000 lines costs as much as sending the files.
_FEW_BYTES, _GATHERING_MS = 4096, 20

OnLines = Callable[[str], None]


class _LocalProgram(NamedTuple):
    """A program that runs, and the socket to its remote shell."""

    process: subprocess.Popen[bytes]
    channel: socket.socket

    def end(self) -> None:
        """Kill it, unless it has ended; it may have done nothing yet."""
        self.channel.close()
        with contextlib.suppress(BrokenPipeError), self.process:
            self.process.kill()


class Piped(LimitedWork):
    """One run of a local program over a link, as the work of an `Operation`.

    In a ``with`` block the program starts at once, and waits for the link.

    :param argv: the program and its arguments; one of them is `REMOTE_SHELL`.
    :param command: makes the host's script from the arguments of the remote shell.
    :param shell: runs the script.
    :param on_lines: receives the lines of its stdout, several at once without the last line end, in
        the thread that runs it; a carriage return ends one too.
    :param stdin: the program's input.
    """

    def __init__(
        self,
        argv: Sequence[str],
        command: Callable[[list[str]], str],
        shell: str,
        on_lines: OnLines,
        *,
        stdin: bytes = b"",
        environ: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._argv, self._command, self._on_lines = argv, command, on_lines
        self._shell = shell
        self._stdin, self._environ = stdin, environ
        self._process: subprocess.Popen[bytes] | None = None
        self._begun: _LocalProgram | None = None
        self._relay: _Relay | None = None
        self.output = CapturedOutput(_MAX_STDERR_BYTES)
        self._take_stderr = functools.partial(self.output.add, STDERR)
        self.end_timeout = _END_TIMEOUT
        self.was_killed = False
        """Whether the program had no time to end by itself."""

    def __enter__(self) -> Piped:
        with contextlib.suppress(OSError, MemoryError, UsageError):  # `run` tells the reason
            self._begun = self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._begun is not None:
            self._begun.end()

    def _run_over(self, link: Link) -> Ending | None:
        begun, self._begun = self._begun, None
        if begun is not None and begun.process.poll() is not None:  # it has waited too long
            begun.end()
            begun = None
        process, channel = begun or self._start()
        with channel:
            fd_session = FdSession(link, self._take_stderr, self._deadline)
            relay = _Relay(channel, fd_session, (self._command, self._shell), self._take_stderr)
            self._relay = relay
            relay.start()
            try:
                self._follow(process)
                if process.returncode == 0 and not self._is_stopped:
                    relay.wait(self.end_timeout)
            except BaseException:
                self._end(process)
                raise
            finally:
                relay.finish()
                self.was_killed = process.returncode == -signal.SIGKILL
        return None if self._is_stopped else relay.ending(process.returncode)

    def _interrupt(self) -> None:
        process, relay = self._process, self._relay
        if process is None:
            return
        process.terminate()
        if process.returncode == 0 and relay is not None:
            relay.cancel()

    def _start(self) -> _LocalProgram:
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack, theirs:
            stack.enter_context(ours)
            shell = _REMOTE_SHELL % theirs.fileno()
            process = subprocess.Popen(
                [shell if argument == REMOTE_SHELL else argument for argument in self._argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=self._environ,
                start_new_session=True,  # Ctrl-C is for this process, which ends it in order
            )
            begun = _LocalProgram(process, ours)
            stack.callback(begun.end)
            start_thread(_feed, process, self._stdin, name="ringtasks-stdin")
            stack.pop_all()
        self._process = process
        if self._is_stopped:
            process.terminate()
        return begun

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        out, stderr = process.stdout, process.stderr
        assert out is not None  # noqa: S101  # for the type checker
        assert stderr is not None  # noqa: S101
        reading = threading.Thread(target=self._read_stderr, args=(stderr,), daemon=True)
        reading.start()
        with out:
            self._read_lines(out.fileno())
        process.wait()
        reading.join(_CLEANUP_TIMEOUT)

    def _read_lines(self, stdout: int) -> None:
        """Pass on the lines until their writer has ended."""
        ending = select.poll()  # unlike select(2), it takes descriptors from 1024 on
        ending.register(stdout, 0)  # only the end of the writer
        rest = b""
        while chunk := os.read(stdout, _CHUNK_BYTES):
            whole, is_whole, rest = (rest + chunk.replace(b"\r", b"\n")).rpartition(b"\n")
            if is_whole:
                self._on_lines(os.fsdecode(whole))
            rest = rest[-_MAX_LINE_BYTES:]
            if len(chunk) < _FEW_BYTES:  # else the pipe may be full before the time has passed
                ending.poll(_GATHERING_MS)

    def _read_stderr(self, stderr: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), stderr:
            while chunk := os.read(stderr.fileno(), _CHUNK_BYTES):
                self._take_stderr(chunk)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(_CLEANUP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _combined(own: int, host: int | None) -> int:
    """Return the status of rsync as it is with ssh: the greater one of its own and its shell's."""
    if own < 0:  # ended by a signal
        return own
    return max(own, _UNKNOWN_STATUS if host is None and own == 0 else host or 0)


def _feed(process: subprocess.Popen[bytes], given: bytes) -> None:
    """Write the program's input; it may end without having read all of it."""
    assert process.stdin is not None  # noqa: S101  # for the type checker
    with contextlib.suppress(OSError), process.stdin as stdin:
        stdin.write(given)


class _Relay:
    """Answers the remote shell with a session on the host, in a thread of its own."""

    def __init__(
        self,
        channel: socket.socket,
        fd_session: FdSession,
        command: tuple[Callable[[list[str]], str], str],
        on_stderr: Callable[[bytes], None],
    ) -> None:
        self._channel = channel
        self._command, self._shell = command
        self._on_stderr, self._fd_session = on_stderr, fd_session
        self._thread = threading.Thread(target=self._run, name="ringtasks-relay", daemon=True)
        self._is_late = False
        self._status: int | None = 0
        """That of the session, as far as there was one; None: not known."""
        self._lost: str | None = None
        self._not_started: LinkLostError | None = None
        self._no_mark: NoMarkError | None = None

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        """Let the session end, from another thread."""
        self._fd_session.cancel()

    def wait(self, timeout: float) -> None:
        """Wait for the session to end, after the program has succeeded."""
        self._end_receiving()
        self._thread.join(timeout)
        self._is_late = self._thread.is_alive()
        self._fd_session.cancel()

    def finish(self) -> None:
        """Give the session a time to end, after the program has ended."""
        self._end_receiving()
        self._thread.join(_CLEANUP_TIMEOUT)
        self._fd_session.cancel()
        self._thread.join(_CLEANUP_TIMEOUT)

    def ending(self, own_status: int) -> Ending:
        """Return the end of the whole, of which the program ended with ``own_status``.

        :raises LinkLostError: nothing had begun on the host.
        """
        if self._not_started is not None:
            raise self._not_started
        if self._is_late:
            return Ending(status=1, error=_NO_END)
        if self._lost is not None:
            return Ending(lost=self._lost)
        if self._no_mark is not None:
            return Ending(status=self._no_mark.status, unproven=self._no_mark.evidence)
        return Ending(status=_combined(own_status, self._status))

    def _end_receiving(self) -> None:
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            handed_over = _receive(self._channel)
            if handed_over is not None:  # else the program ended without a remote shell
                self._status = self._pass_on(*handed_over)
        except OSError as error:
            self._on_stderr(f"the streams cannot be taken over: {error.strerror}\n".encode())

    def _pass_on(self, arguments: list[str], stdin: int, stdout: int) -> int | None:
        """Run a session with the remote shell's streams; return its exit status, if it is known."""
        try:
            return self._fd_session.run(self._command(arguments), self._shell, stdin, stdout)
        except LinkLostError as error:
            if self._fd_session.has_begun and not isinstance(error, NotStartedError):
                self._lost = str(error)
            else:
                self._not_started = error
        except NoMarkError as error:
            self._no_mark = error
        except OSError as error:
            self._on_stderr(f"the output cannot be passed on: {error.strerror}\n".encode())
        return None


def _receive(channel: socket.socket) -> tuple[list[str], int, int] | None:
    """Return the arguments of the remote shell, and its stdin and stdout.

    :raises OSError: there is no free descriptor for them.
    """
    room = socket.CMSG_SPACE(2 * 4)
    try:
        received, ancillary, _, _ = channel.recvmsg(_CHUNK_BYTES, room)
    except OSError:
        return None
    streams = [fd for _, _, fds in ancillary for (fd,) in struct.iter_unpack("=i", fds)]
    if len(streams) != 2:  # recvmsg(2) leaves out those for which there is no free descriptor
        for stream in streams:
            os.close(stream)
        if received:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return None
    stdin, stdout = streams
    message = _rest_of(channel, received)
    if message is None:
        os.close(stdin)
        os.close(stdout)
        return None
    return [os.fsdecode(word) for word in message.split(b"\0")], stdin, stdout


def _rest_of(channel: socket.socket, received: bytes) -> bytes | None:
    """Return the message without its length; None: the remote shell has ended within it."""
    channel.settimeout(_HANDOVER_TIMEOUT)
    length = int.from_bytes(received[:4], "big")
    try:
        while len(received) < 4 + length:
            chunk = channel.recv(_CHUNK_BYTES)
            if not chunk:
                return None
            received += chunk
    except OSError:
        return None
    channel.settimeout(None)
    return received[4:]
