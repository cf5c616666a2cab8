"""The program of one SSH channel of an embedded host, with its pipes or its terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

__all__ = ["ShellCommand"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2

#: The signals that SSH has a name for (RFC 4254 section 6.10); sshd reports and delivers these.
_SIGNALS = frozenset(
    {"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM"}
    | {"USR1", "USR2"}
)
_NUMBERED = {int(known): known.name.removeprefix("SIG") for known in signal.Signals}


class Owner(Protocol):
    """The host that a command runs on: its home folder, and its running commands."""

    folder: Path
    commands: set[ShellCommand]


class ShellCommand(asyncio.SubprocessProtocol):
    """Login shell of an ``exec`` or ``shell`` request, with its channel.

    Flow control works both ways: a full channel pauses reading the program's output, a full pipe to
    the program pauses reading the client's input.  If the client closes the channel, the program is
    not killed: its pipes break (SIGPIPE, end of file), or its terminal hangs up.
    """

    def __init__(self, channel: Any, owner: Owner) -> None:
        self._channel = channel
        self._owner = owner
        self._has_terminal = channel.get_terminal_type() is not None
        self._process: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None
        self._outputs: dict[int, asyncio.ReadTransport] = {}
        self._is_started = self._is_hung_up = False
        self._is_input_paused = self._is_output_paused = False
        self._early_input = bytearray()
        self._has_early_end = False
        self.exited = asyncio.Event()
        owner.commands.add(self)
        self._starting = asyncio.ensure_future(self._start())

    # The client's side.

    def take_input(self, received: bytes) -> None:
        if not self._is_started:
            self._early_input += received  # bounded by the channel's window
        elif self._input is not None and not self._input.is_closing():
            self._input.write(received)

    def end_input(self) -> None:
        if not self._is_started:
            self._has_early_end = True
        # The only end of input on a terminal is ^D, which the client sends; sshd does the same.
        elif not self._has_terminal and self._input is not None and self._input.can_write_eof():
            self._input.write_eof()

    def pause_output(self) -> None:
        self._is_output_paused = True
        for output in self._outputs.values():
            output.pause_reading()

    def resume_output(self) -> None:
        self._is_output_paused = False
        for output in self._outputs.values():
            output.resume_reading()

    def signal(self, name: str) -> None:
        """Deliver an SSH signal to the program's process group (``session_signal_req``)."""
        if name in _SIGNALS and self._process is not None and not self.exited.is_set():
            _signal_group(self._process.get_pid(), signal.Signals[f"SIG{name}"])

    def resize(self, size: tuple[int, int, int, int]) -> None:
        if self._has_terminal and _STDOUT in self._outputs:
            _set_size(self._outputs[_STDOUT].get_extra_info("pipe").fileno(), size)

    def hang_up(self) -> None:
        self._is_hung_up = True
        for output in tuple(self._outputs.values()):
            output.close()
        if self._input is None:
            return
        if self._has_terminal:
            _abort(self._input)  # unread input must not keep the terminal open
        else:
            self._input.close()  # input that was sent is still delivered

    # The program's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._process = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        if not self._is_hung_up:
            self._channel.write(data, None if fd == _STDOUT else _extended_stderr())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == _STDIN:
            self._input = None
        elif self._outputs.pop(fd, None) is not None:
            self._end_if_done()

    def pause_input(self) -> None:
        self._is_input_paused = True
        self._channel.pause_reading()

    def resume_input(self) -> None:
        self._is_input_paused = False
        # Not at once: asyncio's pipe transport calls this before it checks if it is closing, and
        # would drop input that is written, and ended, meanwhile.
        asyncio.get_running_loop().call_soon(self._resume_channel)

    def _resume_channel(self) -> None:
        if not (self._is_input_paused or self._is_hung_up):
            self._channel.resume_reading()

    def process_exited(self) -> None:
        self.exited.set()
        self._end_if_done()

    async def kill(self) -> None:
        """End the program and everything in its session."""
        await asyncio.wait({self._starting})
        if self._process is not None:
            _kill_session(self._process.get_pid())
        await self.exited.wait()

    async def _start(self) -> None:
        try:
            await (self._start_in_terminal() if self._has_terminal else self._start_on_pipes())
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._refuse(error)  # for example, the argument list is too long
            return
        self._is_started = True
        if self._is_hung_up:
            self.hang_up()
            return
        if self._is_output_paused:
            self.pause_output()
        self.take_input(bytes(self._early_input))
        if self._has_early_end:
            self.end_input()
        self._end_if_done()

    async def _start_on_pipes(self) -> None:
        # A pipe made here, because asyncio's is a socket before Python 3.12, and a program cannot
        # open a socket as /dev/stdin.
        theirs, ours = os.pipe()
        with os.fdopen(theirs), _closed_on_error(ours) as (writing,):
            pipe = asyncio.subprocess.PIPE
            process = await self._spawn(stdin=theirs, stdout=pipe, stderr=pipe)
            await self._connect_input(writing)
        for fd in (_STDOUT, _STDERR):
            output = cast(asyncio.ReadTransport, process.get_pipe_transport(fd))
            if not output.is_closing():
                self._outputs[fd] = output

    async def _start_in_terminal(self) -> None:
        ours, theirs = pty.openpty()
        with os.fdopen(theirs), _closed_on_error(ours, os.dup(ours)) as (reading, writing):
            _set_size(ours, self._channel.get_terminal_size())
            await self._spawn(stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=_take_terminal)
            await self._connect_input(writing)
            self._outputs[_STDOUT], _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: _PipeEnd(self, _STDOUT), reading
            )

    async def _connect_input(self, pipe: BinaryIO) -> None:
        self._input, _ = await asyncio.get_running_loop().connect_write_pipe(
            lambda: _PipeEnd(self, _STDIN), pipe
        )

    async def _spawn(self, **options: Any) -> asyncio.SubprocessTransport:
        command = self._channel.get_command()
        process, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            *(["-sh"] if command is None else ["sh", "-c", command]),
            executable="/bin/sh",
            cwd=self._owner.folder,
            env=self._environment(),
            start_new_session=True,
            **options,
        )
        return process

    def _environment(self) -> dict[bytes, bytes]:
        # The interpreter's folder comes first, so that "python3" exists.
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        own = {
            "PATH": path,
            "HOME": str(self._owner.folder),
            "SHELL": "/bin/sh",
            "USER": "demo",
            "LOGNAME": "demo",
        }
        if self._has_terminal:
            own["TERM"] = self._channel.get_terminal_type()
        sent: dict[bytes, bytes] = self._channel.get_environment_bytes()
        accepted = {  # AcceptEnv of most distributions' sshd_config(5)
            name: value
            for name, value in sent.items()
            if (name == b"LANG" or re.fullmatch(rb"LC_\w*", name)) and b"\0" not in value
        }
        return {**accepted, **{os.fsencode(k): os.fsencode(v) for k, v in own.items()}}

    def _refuse(self, error: Exception) -> None:
        """Report that the shell cannot start, with the text and status of sshd (``do_child``)."""
        self.exited.set()
        self._owner.commands.discard(self)
        if not self._is_hung_up:
            reason = getattr(error, "strerror", None) or error
            self._channel.write(f"/bin/sh: {reason}\n".encode(), _extended_stderr())
            self._report(1)

    def _end_if_done(self) -> None:
        if not (self._is_started and self.exited.is_set()) or self._outputs:
            return
        if self._process is None:
            return
        if self._input is not None:
            _abort(self._input)
        self._process.close()
        if not self._has_terminal and not _group_exists(self._process.get_pid()):
            self._owner.commands.discard(self)  # else `kill` ends its background processes
        if not self._is_hung_up:
            self._is_hung_up = True
            self._report(self._process.get_returncode() or 0)

    def _report(self, status: int) -> None:
        self._channel.write_eof()
        if status >= 0:
            self._channel.exit(status)
            return
        name = _NUMBERED.get(-status, "")
        # The name that sig2name() of session.c gives to other signals.
        self._channel.exit_with_signal(name if name in _SIGNALS else "SIG@openssh.com")


class _PipeEnd(asyncio.Protocol):
    """This process's end of a command's stdin or terminal; reports to the command as ``fd``."""

    def __init__(self, command: ShellCommand, fd: int) -> None:
        self._command = command
        self._fd = fd

    def data_received(self, data: bytes) -> None:
        self._command.pipe_data_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._command.pipe_connection_lost(self._fd, exc)

    def pause_writing(self) -> None:
        self._command.pause_input()

    def resume_writing(self) -> None:
        self._command.resume_input()


@contextlib.contextmanager
def _closed_on_error(*descriptors: int) -> Iterator[list[BinaryIO]]:
    """Yield the descriptors as unbuffered files; if the block fails, close them."""
    files: list[BinaryIO] = [open(fd, "rb+", 0) for fd in descriptors]  # noqa: PTH123, SIM115
    try:
        yield files
    except BaseException:
        for file in files:
            file.close()
        raise


def _abort(transport: asyncio.WriteTransport) -> None:
    # asyncio's pipe transports fail in their own callback when aborted after they have closed.
    if not transport.is_closing() or transport.get_write_buffer_size():
        transport.abort()


def _extended_stderr() -> int:
    import asyncssh

    return asyncssh.EXTENDED_DATA_STDERR


def _take_terminal() -> None:
    """Make stdin the controlling terminal of the child, which leads a new session.

    It is one system call and imports nothing, so it cannot wait for another thread's lock.
    """
    fcntl.ioctl(_STDIN, termios.TIOCSCTTY, 0)


def _set_size(terminal: int, size: tuple[int, int, int, int]) -> None:
    columns, rows, width, height = (min(number, 0xFFFF) for number in size)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _kill_session(leader: int) -> None:
    """Kill a session; if there is a /proc, also the process groups of its background jobs."""
    _signal_group(leader, signal.SIGKILL)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == leader:
                os.kill(int(entry.name), signal.SIGKILL)
