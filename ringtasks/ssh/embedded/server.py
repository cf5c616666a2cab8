"""Embedded hosts: real SSH servers on loopback, in this process, for trying ringtasks.

Each host has a home in the folder of the state files, which it keeps from process to process, and
runs commands as OpenSSH's sshd would (session.c, ``do_exec_no_pty``, ``do_exec_pty`` and
``do_child``): through the login shell, in a session of their own, with nothing of this process's
environment.  Only a key that is made here and never leaves the process may log in.  The servers end
with the process, the jobs do not.

Known difference: the exit status is sent once the output has ended, as the last thing before the
channel closes; sshd sends it when the shell exits, even while something else holds the output.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

from ringtasks.errors import UsageError
from ringtasks.inventory.checks import is_loopback
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.state_files import state_folder

from .command import ShellCommand

__all__ = ["serve", "stop_all"]

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0
_REMOVE_TIMEOUT = 1.0
_SFTP_VERSION = 3  # OpenSSH speaks version 3

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
    """Stop every embedded server and end its programs. Safe to repeat.

    A program that left its session by setsid(2), as a job does, keeps running, as after sshd ends.
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
    commands: set[ShellCommand] = field(default_factory=set)

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


def _home(name: str, scratch: Path) -> Path:
    """Return the host's home; below ``scratch``, if the state files cannot be written."""
    kept = state_folder() / "embedded" / f"home-{quote(name, safe='')}"
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(dir=scratch))
    return kept.resolve()


async def _start_host(name: str, scratch: Path) -> _Host:
    import asyncssh

    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    host = _Host(
        _home(name, scratch),
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
            return DemoSession()

        def connection_requested(
            self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
        ) -> bool:
            if not is_loopback(dest_host):
                raise asyncssh.ChannelOpenError(
                    asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "loopback only"
                )
            return True

    class DemoSession(asyncssh.SSHServerProcess[bytes]):
        """Session that leaves SFTP to asyncssh and passes commands to a `ShellCommand`."""

        def __init__(self) -> None:
            super().__init__(lambda _: None, cast(Any, HomeFiles), _SFTP_VERSION, False)
            self._command: ShellCommand | None = None

        def exec_requested(self, command: str) -> bool:
            return "\0" not in command

        def subsystem_requested(self, subsystem: str) -> bool:
            return subsystem == "sftp"

        def session_started(self) -> None:
            if self.channel.get_subsystem() is not None:
                super().session_started()
                return
            self._command = ShellCommand(self.channel, host)

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

    class HomeFiles(asyncssh.SFTPServer):
        def map_path(self, path: bytes) -> bytes:
            return _in_home(host.folder, path)

    return Server


def _in_home(home: Path, path: bytes) -> bytes:
    """Return the path that a client means: relative to the home; ``~`` is the home."""
    if path == b"~" or path.startswith(b"~/"):
        path = path[2:]
    return os.path.join(os.fsencode(home), path)  # noqa: PTH118 - paths on the wire are bytes


def _remove(folder: Path) -> None:
    """Remove a folder; try again, since a program that was just killed may still write to it."""
    deadline = time.monotonic() + _REMOVE_TIMEOUT
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return
