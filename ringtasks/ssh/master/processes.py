"""Masters as processes: verify that a process id is still a master of ours, and end it.

A process id may have been reused, so a process is signalled only if its command line has the
control path.  ``/proc`` shows it on Linux, ps(1) elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

__all__ = ["await_no_master", "is_master", "is_stopped", "kill", "masters_in", "status_of"]

_SOCKET_NAME = r"[0-9a-f]{20}\.[0-9a-f]{6}\b"  # records.py

_LOOK_INTERVAL = 0.01  # seconds; only its parent is told of its end, and ssh ends at once
_PS_TIMEOUT = 5.0
_HAS_PROC = Path("/proc/self/cmdline").exists()


def is_master(pid: int, control_path: Path) -> bool:
    """Return True if it is an ``ssh`` that was started with this control path."""
    return bool(pid) and _argument(control_path) in _ssh_command(pid)


def is_stopped(pid: int) -> bool:
    """Return True if a signal or a debugger has stopped it: it will not answer."""
    return _state(pid) in ("T", "t")


def status_of(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Wait for a process of ours, without the pauses of up to 50 ms of ``Popen.wait``; its status.

    :raises subprocess.TimeoutExpired: it has not ended.
    """
    with contextlib.suppress(AttributeError, OSError):  # Linux 5.3 and later
        descriptor = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if poll.poll(max(0.0, timeout) * 1000):
                return process.wait()
        finally:
            os.close(descriptor)
        timeout = 0
    return process.wait(timeout)


def await_no_master(pid: int, control_path: Path, timeout: float) -> bool:
    """Wait up to ``timeout`` seconds until it is no longer this control path's master; True if so.

    A zombie has no command line; inside a container it may never be reaped.
    """
    deadline = time.monotonic() + timeout
    while is_master(pid, control_path):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_INTERVAL)
    return True


def kill(pid: int, control_path: Path, number: int = signal.SIGKILL) -> None:
    """Signal it, if it is this control path's master."""
    if is_master(pid, control_path):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def masters_in(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the process id and control path of each master whose socket is or was in ``folder``."""
    for pid in _own_processes():
        command = _ssh_command(pid)
        for name in re.findall(_SOCKET_NAME, command):
            if _argument(folder / name) in command:
                yield pid, folder / name
                break


def _argument(control_path: Path) -> str:
    from .command import control_path_option

    return control_path_option(control_path)


def _own_processes() -> list[int]:
    if not _HAS_PROC:
        return [int(pid) for pid in _ps("-U", str(os.getuid()), "-o", "pid=").split()]
    found = []
    with os.scandir("/proc") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                    found.append(int(entry.name))
    return found


def _ssh_command(pid: int) -> str:
    """Return the command line of an ``ssh``; empty for any other process."""
    command = _about(pid, "cmdline", "command").replace("\0", " ")
    is_ssh = os.path.basename(command.partition(" ")[0]) == "ssh"  # noqa: PTH119  # of many
    return command if is_ssh else ""


def _state(pid: int) -> str:
    # proc(5): the name before it may hold any character.
    return _about(pid, "stat", "stat").rpartition(")")[2].strip()[:1]


def _about(pid: int, file: str, keyword: str) -> str:
    """Return a file of ``/proc/PID``, or the value of ps(1) in its place; empty: it has ended."""
    if not _HAS_PROC:
        return _ps("-ww", "-o", f"{keyword}=", "-p", str(pid)).strip()
    try:
        return os.fsdecode(Path(f"/proc/{pid}/{file}").read_bytes())
    except OSError:
        return ""


def _ps(*options: str) -> str:
    import subprocess

    ps = subprocess.run(
        ["ps", *options], capture_output=True, text=True, timeout=_PS_TIMEOUT, check=False
    )
    return ps.stdout
