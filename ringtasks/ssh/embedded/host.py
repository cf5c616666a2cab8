"""One embedded host: an SSH server on loopback, and the programs of its sessions.

Loaded only if there is such a host, since asyncssh takes long to load.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import asyncssh

from ringtasks.inventory.checks import is_loopback

__all__ = ["EmbeddedHost"]

_SFTP_VERSION = 3  # OpenSSH speaks version 3
_CHUNK_BYTES = 64 * 1024
#: The signals that SSH has a name for (RFC 4254 section 6.10); sshd reports and delivers these.
_SIGNALS = frozenset(
    {"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM"}
    | {"USR1", "USR2"}
)
_NUMBERED = {int(known): known.name.removeprefix("SIG") for known in signal.Signals}


class EmbeddedHost:
    """An embedded host: its keys, connections and sessions.

    :param folder: its home.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.sessions: set[_DemoSession] = set()

    async def start(self) -> None:
        """Make the keys, and listen."""
        host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self.host_key = " ".join(host_key.export_public_key().decode().split()[:2])
        self.client_key = client_key.export_private_key().decode()
        self._acceptor = await asyncssh.create_server(
            lambda: _DemoServer(self),
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
        self.port = self._acceptor.get_port()

    async def stop(self) -> None:
        """End the programs, the connections and the server."""
        self._acceptor.close()
        await asyncio.gather(*(session.kill() for session in tuple(self.sessions)))
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        # Connections first: from Python 3.12 on, closing an acceptor waits for its connections.
        await asyncio.gather(*(connection.wait_closed() for connection in connections))
        await self._acceptor.wait_closed()


class _DemoServer(asyncssh.SSHServer):
    """One connection, as asyncssh asks for it; the only way to log in is a public key."""

    def __init__(self, host: EmbeddedHost) -> None:
        self._host = host

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._host.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.connections.discard(self._connection)

    def session_requested(self) -> _DemoSession:
        return _DemoSession(self._host)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        if not is_loopback(dest_host):
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "loopback only"
            )
        return True


class _HomeFiles(asyncssh.SFTPServer):
    """Files by SFTP; a path is relative to the home, and ``~`` is the home."""

    def __init__(self, folder: Path, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(channel)
        self._folder = os.fsencode(folder)

    def map_path(self, path: bytes) -> bytes:
        below = path[2:] if path == b"~" or path.startswith(b"~/") else path
        return os.path.join(self._folder, below)  # noqa: PTH118  # paths on the wire are bytes


class _DemoSession(asyncssh.SSHServerProcess[bytes]):
    """SFTP, which asyncssh serves, or the login shell of an ``exec`` or ``shell`` request.

    If the client closes the channel, the shell is not killed: its pipes break (SIGPIPE, end of
    file), or its terminal hangs up.
    """

    def __init__(self, host: EmbeddedHost) -> None:
        files = functools.partial(_HomeFiles, host.folder)
        super().__init__(_DemoSession._run, files, _SFTP_VERSION, False)  # type: ignore[arg-type]  # of this class
        self._host = host
        self._program: asyncio.subprocess.Process | None = None
        self._is_started = asyncio.Event()
        self._terminal: int | None = None

    def exec_requested(self, command: str) -> bool:
        return "\0" not in command

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def signal_received(self, signal_name: str) -> None:
        """Deliver an SSH signal to the program's process group (``session_signal_req``)."""
        is_running = self._program is not None and self._program.returncode is None
        if self._program is not None and is_running and signal_name in _SIGNALS:
            _signal_group(self._program.pid, signal.Signals[f"SIG{signal_name}"])

    def break_received(self, msec: int) -> bool:
        return False

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._terminal is not None:
            _set_size(self._terminal, (width, height, pixwidth, pixheight))

    async def kill(self) -> None:
        """End the program and everything in its session."""
        await self._is_started.wait()
        if self._program is not None:
            _kill_session(self._program.pid)
            await self._program.wait()

    async def _run(self) -> None:
        self._host.sessions.add(self)
        has_terminal = self.term_type is not None
        ours, theirs = self._terminal_ends() if has_terminal else _pipe_ends()
        try:
            self._program = await self._started(theirs, has_terminal)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _close(ours)  # for example, the argument list is too long
            self._host.sessions.discard(self)
            reason = getattr(error, "strerror", None) or error
            self.stderr.write(f"/bin/sh: {reason}\n".encode())
            self._report(1)  # text and status of sshd (``do_child``)
            return
        finally:
            _close(theirs)
            self._is_started.set()
        await self._passed(self._program, *ours)
        if not has_terminal and not _group_exists(self._program.pid):
            self._host.sessions.discard(self)  # else `kill` ends its background processes

    def _terminal_ends(self) -> tuple[list[int], list[int]]:
        """Return our ends of a terminal, for its input and output, and the program's."""
        ours, theirs = os.openpty()
        os.set_blocking(ours, False)
        _set_size(ours, self.term_size)
        self._terminal = ours
        return [os.dup(ours), ours], [theirs]

    async def _started(
        self, theirs: Sequence[int], has_terminal: bool
    ) -> asyncio.subprocess.Process:
        stdin, stdout, stderr = (*theirs, *theirs, *theirs)[:3]
        return await asyncio.create_subprocess_exec(
            *(["-sh"] if self.command is None else ["sh", "-c", self.command]),
            executable="/bin/sh",
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=self._host.folder,
            env=self._environment(),
            start_new_session=True,
            preexec_fn=_take_terminal if has_terminal else None,
        )

    async def _passed(self, program: asyncio.subprocess.Process, stdin: int, *outputs: int) -> None:
        """Pass on the bytes of both sides until the program has ended, and report its end."""
        writers = (self.stdout, self.stderr)
        out = asyncio.gather(*map(self._pass_output, outputs, writers))
        typed = asyncio.ensure_future(self._pass_input(stdin))
        closed = asyncio.ensure_future(self.wait_closed())
        try:
            first: set[asyncio.Future[Any]] = {out, closed}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            out.cancel()
            if self._terminal is not None:
                self._terminal = None
                typed.cancel()  # unread input must not keep the terminal open
            status = await program.wait()
            if not closed.done():
                self._report(status)
        finally:
            for task in (out, typed, closed):
                task.cancel()
            # asyncio prints an error that is not taken, such as that of a lost connection.
            await asyncio.gather(out, typed, closed, return_exceptions=True)

    async def _pass_input(self, descriptor: int) -> None:
        """Pass on the client's input; a terminal stays open after it, since its output does."""
        loop = asyncio.get_running_loop()
        with open(descriptor, "wb", 0), contextlib.suppress(OSError):
            while received := memoryview(await self.stdin.read(_CHUNK_BYTES)):
                while received:
                    await _ready(loop.add_writer, loop.remove_writer, descriptor)
                    with contextlib.suppress(BlockingIOError):
                        received = received[os.write(descriptor, received) :]

    async def _pass_output(self, descriptor: int, writer: asyncssh.SSHWriter[bytes]) -> None:
        """Pass on output as fast as the client takes it; a terminal ends with EIO."""
        loop = asyncio.get_running_loop()
        with open(descriptor, "rb", 0), contextlib.suppress(OSError, asyncssh.Error):
            while True:
                await _ready(loop.add_reader, loop.remove_reader, descriptor)
                if not (chunk := os.read(descriptor, _CHUNK_BYTES)):
                    return
                writer.write(chunk)
                await writer.drain()

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
        if self.term_type is not None:
            own["TERM"] = self.term_type
        sent = self.channel.get_environment_bytes()
        accepted = {  # AcceptEnv of most distributions' sshd_config(5)
            name: value
            for name, value in sent.items()
            if (name == b"LANG" or re.fullmatch(rb"LC_\w*", name)) and b"\0" not in value
        }
        return {**accepted, **{os.fsencode(k): os.fsencode(v) for k, v in own.items()}}

    def _report(self, status: int) -> None:
        with contextlib.suppress(OSError):  # the client has closed the channel
            self.channel.write_eof()
            if status >= 0:
                self.channel.exit(status)
                return
            name = _NUMBERED.get(-status, "")
            # The name that sig2name() of session.c gives to other signals.
            self.channel.exit_with_signal(name if name in _SIGNALS else "SIG@openssh.com")


def _pipe_ends() -> tuple[list[int], list[int]]:
    """Return our ends of three pipes, and the program's: it can open a pipe as /dev/stdin."""
    (stdin, ours), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    os.set_blocking(ours, False)
    return [ours, out, err], [stdin, stdout, stderr]


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


async def _ready(watch: Callable[..., Any], unwatch: Callable[..., Any], descriptor: int) -> None:
    """Wait until a descriptor can be read or written without blocking."""
    event = asyncio.Event()
    watch(descriptor, event.set)
    try:
        await event.wait()
    finally:
        unwatch(descriptor)


def _take_terminal() -> None:
    """Make stdin the controlling terminal of the child, which leads a new session.

    It is one system call and imports nothing, so it cannot wait for another thread's lock.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


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
