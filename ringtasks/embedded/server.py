"""Embedded hosts: real SSH servers on loopback, in this process, for trying ringtasks.

Each host has a scratch folder, which is its home, and runs commands as OpenSSH's sshd would
(session.c, ``do_exec_no_pty``, ``do_exec_pty`` and ``do_child``): through the login shell, in a
session of their own, with nothing of this process's environment.  Only a key that is made here
and never leaves the process may log in.  The servers end with the process.

Known difference: the exit status is sent once the output has ended, as the last thing before the
channel closes; sshd sends it when the shell exits, even while something else holds the output.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import fcntl
import ipaddress
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from ringtasks.errors import UsageError
from ringtasks.inventory.config import SSHConfig

__all__ = ["serve", "stop_all"]

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0
_REMOVE_TIMEOUT = 1.0
_STDIN, _STDOUT, _STDERR = 0, 1, 2
_SFTP_VERSION = 3  # OpenSSH speaks version 3

#: The signals that SSH has a name for (RFC 4254 section 6.10); sshd reports and delivers these.
_SIGNALS = frozenset(
    {"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM"}
    | {"USR1", "USR2"}
)
_NUMBERED = {int(known): known.name.removeprefix("SIG") for known in signal.Signals}

_T = TypeVar("_T")


def serve(config: SSHConfig) -> SSHConfig:
    """Return ``config``, changed to reach an embedded server by its direct route.

    If the server is not running, it is started.  Safe from any thread; each host, identified by
    `SSHConfig.id`, has one server in a process.

    :raises UsageError: asyncssh is not installed.
    """
    try:
        import asyncssh  # noqa: F401 - imported before the thread starts, so that a lack of it leaves no thread
    except ImportError as error:
        raise UsageError("embedded hosts need asyncssh: pip install 'ringtasks[demo]'") from error
    host = _start_engine().host(config.id)
    return replace(
        config,
        host="127.0.0.1",
        port=host.port,
        user="demo",
        ssh_host_key=host.host_key,
        private_key=host.client_key,
        use_control_master=False,
    )


def stop_all() -> None:
    """Stop every embedded server, end its programs, remove its folder. Safe to repeat.

    A program that left its session by setsid(2) keeps running, as it does after sshd ends.
    """
    global _engine
    with _lock:
        engine, _engine = _engine, None
    if engine is not None:
        engine.stop()


_lock = threading.Lock()
_engine: _Engine | None = None


def _start_engine() -> _Engine:
    global _engine
    with _lock:
        if _engine is None:
            _engine = _Engine()
        return _engine


def _forget_engine() -> None:
    """Reset the state in a forked child: servers, thread and folders belong to the parent."""
    global _lock, _engine
    _lock, _engine = threading.Lock(), None


atexit.register(stop_all)
os.register_at_fork(after_in_child=_forget_engine)


class _Engine:
    """Event loop that serves all embedded hosts, in a thread of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ringtasks-demo-")).resolve()
        self._hosts: dict[str, asyncio.Task[_Host]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ringtasks-demo", daemon=True
        )
        self._thread.start()

    def host(self, name: str) -> _Host:
        return self._run(self._host(name), _START_TIMEOUT)

    def stop(self) -> None:
        # The name in concurrent.futures, because it is not the builtin before Python 3.11.
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self._run(self._stop_hosts(), _STOP_TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_TIMEOUT)
        if not self._thread.is_alive():
            self._loop.close()
        _remove(self._folder)

    def _run(self, coroutine: Coroutine[Any, Any, _T], timeout: float) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    async def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            self._hosts[name] = asyncio.ensure_future(_start_host(name, self._folder))
        starting = self._hosts[name]
        try:
            return await asyncio.shield(starting)  # another thread may be waiting for it too
        except Exception:
            if self._hosts.get(name) is starting:
                del self._hosts[name]  # the next call tries again
            raise

    async def _stop_hosts(self) -> None:
        hosts = await asyncio.gather(*self._hosts.values(), return_exceptions=True)
        await asyncio.gather(*(host.stop() for host in hosts if isinstance(host, _Host)))
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(eq=False)
class _Host:
    """Embedded host: its keys, connections and running commands."""

    folder: Path
    host_key: str
    client_key: str = field(repr=False)
    acceptor: Any = None
    connections: set[Any] = field(default_factory=set)
    commands: set[_Command] = field(default_factory=set)

    @property
    def port(self) -> int:
        port: int = self.acceptor.get_port()
        return port

    async def stop(self) -> None:
        self.acceptor.close()
        await asyncio.gather(*(command.kill() for command in tuple(self.commands)))
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        # Connections first: from Python 3.12 on, closing an acceptor waits for its connections.
        await asyncio.gather(*(connection.wait_closed() for connection in connections))
        await self.acceptor.wait_closed()


async def _start_host(name: str, parent: Path) -> _Host:
    import asyncssh

    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    # A host's name may be any text; names with the same prefix still get different folders.
    prefix = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:32]
    host = _Host(
        Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=parent)),
        " ".join(host_key.export_public_key().decode().split()[:2]),
        client_key.export_private_key().decode(),
    )
    host.acceptor = await asyncssh.create_server(
        _server_class(host),
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=asyncssh.import_authorized_keys(
            client_key.export_public_key().decode()
        ),
        gss_host=None,
        agent_forwarding=False,
        line_editor=False,
        encoding=None,
        server_version="ringtasks_demo",  # RFC 4253 section 4.2 allows no minus sign
    )
    return host


def _server_class(host: _Host) -> Any:
    """Return the class whose methods asyncssh calls for log-ins, sessions, forwarding and files."""
    import asyncssh

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn
            host.connections.add(conn)

        def connection_lost(self, exc: Exception | None) -> None:
            host.connections.discard(self._connection)

        def begin_auth(self, username: str) -> bool:
            return True  # a log-in is needed; public keys are the only way offered

        def session_requested(self) -> Any:
            return Session()

        def connection_requested(
            self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
        ) -> bool:
            if not _is_loopback(dest_host):
                raise asyncssh.ChannelOpenError(
                    asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "loopback only"
                )
            return True

    class Session(asyncssh.SSHServerProcess[bytes]):
        """Session that leaves SFTP to asyncssh and passes a command's channel to a `_Command`."""

        def __init__(self) -> None:
            super().__init__(lambda _: None, cast(Any, Files), _SFTP_VERSION, False)
            self._command: _Command | None = None

        def exec_requested(self, command: str) -> bool:
            return "\0" not in command

        def subsystem_requested(self, subsystem: str) -> bool:
            return subsystem == "sftp"

        def session_started(self) -> None:
            if self.channel.get_subsystem() is not None:
                super().session_started()
                return
            self._command = _Command(self.channel, host)

        def data_received(self, data: bytes, datatype: int | None) -> None:
            if self._command is None:
                super().data_received(data, datatype)
            else:
                self._command.take_input(data)

        def eof_received(self) -> bool:
            if self._command is None:
                return bool(super().eof_received())
            self._command.end_input()
            return True  # the other direction stays open

        def pause_writing(self) -> None:
            if self._command is None:
                super().pause_writing()
            else:
                self._command.pause_output()

        def resume_writing(self) -> None:
            if self._command is None:
                super().resume_writing()
            else:
                self._command.resume_output()

        def signal_received(self, signal: str) -> None:
            if self._command is not None:
                self._command.signal(signal)

        def break_received(self, msec: int) -> bool:
            return False

        def terminal_size_changed(
            self, width: int, height: int, pixwidth: int, pixheight: int
        ) -> None:
            if self._command is not None:
                self._command.resize((width, height, pixwidth, pixheight))

        def connection_lost(self, exc: Exception | None) -> None:
            if self._command is not None:
                self._command.hang_up()
            super().connection_lost(exc)

    class Files(asyncssh.SFTPServer):
        def map_path(self, path: bytes) -> bytes:
            return _in_home(host.folder, path)

    return Server


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _in_home(home: Path, path: bytes) -> bytes:
    """Return the path that a client means: relative to the home; ``~`` is the home."""
    if path == b"~" or path.startswith(b"~/"):
        path = path[2:]
    return os.path.join(os.fsencode(home), path)  # noqa: PTH118 - paths on the wire are bytes


class _Command(asyncio.SubprocessProtocol):
    """Login shell of an ``exec`` or ``shell`` request, with its channel.

    Flow control works both ways: a full channel pauses reading the program's output, a full pipe to
    the program pauses reading the client's input.  If the client closes the channel, the program is
    not killed: its pipes break (SIGPIPE, end of file), or its terminal hangs up.
    """

    def __init__(self, channel: Any, host: _Host) -> None:
        self._channel = channel
        self._host = host
        self._has_terminal = channel.get_terminal_type() is not None
        self._process: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None
        self._outputs: dict[int, asyncio.ReadTransport] = {}
        self._is_started = self._is_hung_up = False
        self._is_input_paused = self._is_output_paused = False
        self._early_input = bytearray()
        self._has_early_end = False
        self.exited = asyncio.Event()
        host.commands.add(self)
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
            cwd=self._host.folder,
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
            "HOME": str(self._host.folder),
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
        self._host.commands.discard(self)
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
            self._host.commands.discard(self)  # else `kill` ends its background processes
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

    def __init__(self, command: _Command, fd: int) -> None:
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


def _remove(folder: Path) -> None:
    """Remove a folder; try again, since a program that was just killed may still write to it."""
    deadline = time.monotonic() + _REMOVE_TIMEOUT
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return
