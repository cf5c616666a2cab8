"""The list of control masters, and ending them.

At most one process at a time starts a master for a connection (`start`); `lookup` finds the one
that may be used.  All functions are safe with hundreds of processes.

ssh itself is never told to use a master: if the master were gone, ssh would dial on its own.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common import file_lock
from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import ProtocolError

from . import processes, records, usage
from .client_links import remove_dead_links
from .control import ANSWER_TIMEOUT, Control, DeniedError, answers
from .folder import control_folder
from .records import Master

__all__ = [
    "MOST_MASTERS",
    "Master",
    "MasterInUse",
    "cap",
    "listing",
    "lock_file",
    "put_aside",
    "put_aside_unless_starting",
    "retire",
]

#: Seconds for a master to end on request; then it is killed.
END_TIMEOUT = 3.0
#: The number of masters to keep: each holds about 4 MB and a log-in on its host.  A run on more
#: hosts starts none, since it would end those that it started first.
MOST_MASTERS = 64


class MasterInUse(NamedTuple):
    """A master, its open sessions, and the time of its last use."""

    master: Master
    sessions: int
    last_used: float
    """Unix seconds."""


def retire(master: Master) -> bool:
    """End it and its sessions; True if its end was verified. Safe to repeat.

    It gets a request, then SIGTERM, then SIGKILL, each with 3 s to take effect.
    """
    records.withdraw(master)
    if not processes.is_stopped(master.pid):
        with (
            contextlib.suppress(OSError, ProtocolError, DeniedError),
            contextlib.closing(Control.connect(master.socket, ANSWER_TIMEOUT)) as control,
        ):
            control.terminate(ANSWER_TIMEOUT)
        processes.await_no_master(master.pid, master.socket, END_TIMEOUT)
    is_gone = _end(master.pid, master.socket)
    if is_gone:
        records.discard(master.socket)
        remove_dead_links(master.socket.parent)
    return is_gone


def listing() -> list[MasterInUse]:
    """Return all masters in our folder, oldest first. Leftovers are cleaned up if possible."""
    folder = control_folder()
    live = sorted(_live(folder), key=lambda master: master.started_at)
    with contextlib.suppress(OSError):
        _clean(folder)
    return [
        MasterInUse(master, usage.count(master.socket), usage.last_used(master.socket))
        for master in live
    ]


def cap(limit: int = MOST_MASTERS) -> int:
    """Put aside the longest idle masters until ``limit`` are left; return the number put aside.

    A master in use is never among them.
    """
    known = listing()
    idle = sorted((m for m in known if not m.sessions), key=lambda m: m.last_used)
    surplus = idle[: max(0, len(known) - limit)]
    for candidate in surplus:
        put_aside(candidate.master)
    return len(surplus)


def put_aside(master: Master) -> None:
    """Let no new session use it, and end it unless a session still does.

    A process that wants to use it first makes its mark, and then looks for the socket: either its
    mark is seen here, or it finds no socket.
    """
    records.withdraw(master)
    master.socket.unlink(missing_ok=True)
    _end_unless_used(master.pid, master.socket)


def put_aside_unless_starting(master: Master) -> None:
    """`put_aside`, unless another process is starting a new one: that process does it itself."""
    with _exclusively(master.socket) as is_mine:
        if is_mine:
            put_aside(master)


def lock_file(folder: Path, name: str) -> Path:
    """Return the lock file that a process holds to start a master, or to put one aside."""
    return folder / f"{name}.lock"


def _end_unless_used(pid: int, socket: Path) -> None:
    is_master = processes.is_master(pid, socket)
    if is_master and usage.count(socket) and not processes.is_stopped(pid):
        return  # it ends by itself after its last session (ControlPersist)
    if not is_master or _end(pid, socket):
        records.discard(socket)


def _end(pid: int, socket: Path) -> bool:
    """Return True if it is gone, or was not a master of ours."""
    processes.kill(pid, socket, signal.SIGTERM)
    # A stopped process ends only on SIGKILL.
    if not processes.is_stopped(pid) and processes.await_no_master(pid, socket, END_TIMEOUT):
        return True
    processes.kill(pid, socket, signal.SIGKILL)
    return processes.await_no_master(pid, socket, END_TIMEOUT)


def _live(folder: Path) -> Iterator[Master]:
    """Yield the masters that answer; put aside the others."""
    for master in records.current(folder):
        if answers(master):
            yield master
        else:
            with contextlib.suppress(OSError):
                put_aside_unless_starting(master)


def _clean(folder: Path) -> None:
    """End the masters that no session uses any more, and remove leftover files."""
    for master in records.retired(folder):
        _end_unless_used(master.pid, master.socket)
    running = {socket: pid for pid, socket in processes.masters_in(folder)}
    for socket in {*records.orphans(folder), *running}:
        with _exclusively(socket) as is_mine:  # False: its start is under way
            if is_mine and not records.is_known(socket):
                _end_unless_used(running.get(socket, 0), socket)
    for lock in folder.glob("*.lock"):
        with file_lock.locked(lock, timeout=0) as is_mine:
            if is_mine and not any(folder.glob(f"{lock.stem}.??????*")):
                lock.with_suffix(".fail").unlink(missing_ok=True)
                records.pointer(lock.with_suffix("")).unlink(missing_ok=True)
                lock.unlink(missing_ok=True)  # a process that waits for it creates a new one
    remove_dead_links(folder)


def _exclusively(socket: Path) -> contextlib.AbstractContextManager[bool]:
    name = socket.name.partition(".")[0]
    return file_lock.locked(lock_file(socket.parent, name), timeout=0)
