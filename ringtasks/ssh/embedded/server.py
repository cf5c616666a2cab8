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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ringtasks.common import processor
from ringtasks.common.threads import start_thread
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.state_files import state_folder

if TYPE_CHECKING:
    from .host import EmbeddedHost

__all__ = ["serve", "stop_all"]

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0
_REMOVE_TIMEOUT = 1.0

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
        self._hosts: dict[str, asyncio.Task[EmbeddedHost]] = {}
        self._loop = asyncio.new_event_loop()
        with processor.anywhere():
            self._thread = start_thread(self._loop.run_forever, name="ringtasks-demo")

    def host(self, name: str) -> EmbeddedHost:
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

    async def _host(self, name: str) -> EmbeddedHost:
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
        await asyncio.gather(
            *(host.stop() for host in hosts if not isinstance(host, BaseException))
        )
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _home(name: str, scratch: Path) -> Path:
    """Return the host's home; below ``scratch``, if the state files cannot be written."""
    kept = state_folder() / "embedded" / f"home-{quote(name, safe='')}"
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(dir=scratch))
    return kept.resolve()


async def _start_host(name: str, scratch: Path) -> EmbeddedHost:
    from .host import EmbeddedHost

    host = EmbeddedHost(_home(name, scratch))
    await host.start()
    return host


def _remove(folder: Path) -> None:
    """Remove a folder; try again, since a program that was just killed may still write to it."""
    deadline = time.monotonic() + _REMOVE_TIMEOUT
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return
