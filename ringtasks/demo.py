"""Embedded hosts: real SSH servers on loopback, in this process, to try ringtasks on.

Each host has a scratch folder, which is its home, and runs commands as sshd would: through the
login shell, in a session of their own, with nothing of this process's environment.  Only a key
that is made here and never leaves the process may log in.  Everything ends with the process.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import sys
import tempfile
import termios
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .config import SSHConfig
from .errors import UsageError

__all__ = ["serve", "stop_all"]

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0
_CHUNK_BYTES = 64 * 1024


def serve(config: SSHConfig) -> SSHConfig:
    """``config`` with its direct route leading to an embedded server, started if need be.

    Safe from any thread; a host has one server in a process.

    :raises UsageError: asyncssh is not installed.
    """
    with _lock:
        server = _servers.get(config.id)
        if server is None:
            server = _servers[config.id] = _loop().run(_start(config.id))
    return replace(
        config,
        host="127.0.0.1",
        port=server.port,
        user="demo",
        ssh_host_key=server.host_key,
        private_key=server.client_key,
        use_control_master=False,
    )


def stop_all() -> None:
    """Stop every embedded server, end what runs on it, remove its folder. Safe to repeat."""
    global _the_loop  # one loop serves all hosts of the process
    with _lock:
        servers = list(_servers.values())
        _servers.clear()
        loop, _the_loop = _the_loop, None
    if loop is None:
        return
    for server in servers:
        with contextlib.suppress(TimeoutError):
            loop.run(server.stop(), _STOP_TIMEOUT)
    loop.stop()


@dataclass
class _Server:
    """One embedded host."""

    acceptor: Any
    folder: Path
    host_key: str
    client_key: str
    processes: set[int]

    @property
    def port(self) -> int:
        port: int = self.acceptor.get_port()
        return port

    async def stop(self) -> None:
        self.acceptor.close()
        for group in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        await self.acceptor.wait_closed()
        shutil.rmtree(self.folder, ignore_errors=True)


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ringtasks-demo", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Any, timeout: float = _START_TIMEOUT) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def stop(self) -> None:
        self.run(_end_tasks(), _STOP_TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_TIMEOUT)
        self._loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_lock = threading.Lock()
_servers: dict[str, _Server] = {}
_the_loop: _Loop | None = None


def _loop() -> _Loop:
    global _the_loop
    if _the_loop is None:
        _the_loop = _Loop()
        atexit.register(stop_all)
    return _the_loop


async def _start(name: str) -> _Server:
    try:
        import asyncssh
    except ImportError:
        raise UsageError(
            f"{name}: embedded hosts need asyncssh: pip install 'ringtasks[demo]'"
        ) from None
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    client_key = asyncssh.generate_private_key("ssh-ed25519")
    authorized = asyncssh.import_authorized_keys(client_key.export_public_key().decode())
    folder = Path(tempfile.mkdtemp(prefix=f"ringtasks-{name}-"))
    processes: set[int] = set()

    class SSHServer(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def connection_requested(self, host: str, port: int, *_: Any) -> bool:
            return host in ("localhost", "127.0.0.1", "::1")  # forwarding, as far as loopback

    class SFTPServer(asyncssh.SFTPServer):
        """Paths that are not absolute start in the host's home, as with sftp-server(8)."""

        def map_path(self, path: bytes) -> bytes:
            return os.fsencode(folder / os.fsdecode(path))

        def realpath(self, path: bytes) -> bytes:
            return os.path.realpath(self.map_path(path))

    async def handle(process: Any) -> None:
        await _Program(process, folder, processes).run()

    acceptor = await asyncssh.create_server(
        SSHServer,
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=authorized,
        process_factory=handle,
        sftp_factory=SFTPServer,
        encoding=None,
        agent_forwarding=False,
        line_editor=False,
        server_version="ringtasks-demo",
    )
    return _Server(
        acceptor,
        folder,
        " ".join(host_key.export_public_key().decode().split()[:2]),
        client_key.export_private_key().decode(),
        processes,
    )


class _Program:
    """What an ``exec`` or ``shell`` request starts: the login shell, as sshd runs it."""

    def __init__(self, process: Any, folder: Path, processes: set[int]) -> None:
        self._process = process
        self._folder = folder
        self._processes = processes

    async def run(self) -> None:
        command = self._process.command
        if isinstance(command, bytes):
            command = os.fsdecode(command)
        argv = ["/bin/sh", "-c", command] if command is not None else ["-sh"]
        if self._process.term_type is None:
            await self._run_with_pipes(argv)
        else:
            await self._run_in_terminal(argv)

    async def _run_with_pipes(self, argv: list[str]) -> None:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *argv,
            executable="/bin/sh",
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=self._folder,
            env=self._environment(),
            start_new_session=True,
        )
        self._processes.add(child.pid)
        feeding = asyncio.ensure_future(_feed(self._process.stdin, child.stdin))
        try:
            await asyncio.gather(
                _copy(child.stdout, self._process.stdout),
                _copy(child.stderr, self._process.stderr),
            )
            status = await child.wait()
        finally:
            feeding.cancel()
        self._end(status)

    async def _run_in_terminal(self, argv: list[str]) -> None:
        ours, theirs = pty.openpty()
        _set_size(ours, self._process.term_size)
        child = await asyncio.create_subprocess_exec(
            *argv,
            executable="/bin/sh",
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self._folder,
            env=self._environment() | {"TERM": self._process.term_type},
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        self._processes.add(child.pid)
        loop = asyncio.get_running_loop()
        output = asyncio.StreamReader()
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(os.dup(ours), "rb", 0)
        )
        typing = asyncio.ensure_future(self._type_into(ours))
        try:
            with contextlib.suppress(OSError):  # EIO: the last program has closed the terminal
                await _copy(output, self._process.stdout)
            status = await child.wait()
        finally:
            typing.cancel()
            reading.close()
            os.close(ours)
        self._end(status)

    async def _type_into(self, terminal: int) -> None:
        import asyncssh

        while True:
            try:
                typed = await self._process.stdin.read(_CHUNK_BYTES)
            except asyncssh.TerminalSizeChanged as change:
                _set_size(terminal, change.term_size)
                continue
            except asyncssh.BreakReceived:
                continue
            os.write(terminal, typed or b"\x04")  # end of file, as a terminal knows it
            if not typed:
                return

    def _environment(self) -> dict[str, str]:
        sent = self._process.get_environment() if hasattr(self._process, "get_environment") else {}
        accepted = {
            name: value
            for name, value in dict(sent).items()
            if str(name).startswith(("LANG", "LC_"))
        }
        # The interpreter's folder first: "python3" is then one that is known to be there.
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        own = {"PATH": path, "HOME": str(self._folder), "SHELL": "/bin/sh"}
        return {**accepted, **own, "USER": "demo", "LOGNAME": "demo"}

    def _end(self, status: int) -> None:
        if status < 0:
            name = signal.Signals(-status).name.removeprefix("SIG")
            self._process.exit_with_signal(name)
        else:
            self._process.exit(status)


async def _feed(source: Any, sink: Any) -> None:
    """The client's stdin to the program's, to its end."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while chunk := await source.read(_CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sink.close()


async def _copy(source: Any, sink: Any) -> None:
    """A stream of the program's to the client, no faster than the client takes it.

    When the client has gone the rest is dropped: the program is not ended by that, as with sshd.
    """
    is_open = True
    while chunk := await source.read(_CHUNK_BYTES):
        if not is_open:
            continue
        try:
            sink.write(chunk)
            await sink.drain()
        except (OSError, EOFError):
            is_open = False


def _take_terminal() -> None:
    """In the child: a new session with the terminal as its own (setsid(2), TIOCSCTTY)."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(terminal: int, size: tuple[int, ...]) -> None:
    columns, rows = (size[0] or 80), (size[1] or 24)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
