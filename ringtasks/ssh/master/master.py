"""Control masters: which there are, and ending them.

At most one process at a time starts a master for a connection (`start`); `finding` tells which may
be used.  All of it is safe with hundreds of processes.

ssh itself is never asked to use a master: with a dead one it would dial on its own.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ringtasks.errors import ProtocolError

from . import locks, processes, records, usage
from .control import Control, DeniedError
from .folder import control_folder
from .lookup import ANSWER_TIMEOUT, answers
from .records import Master

__all__ = [
    "Master",
    "MasterInUse",
    "cap",
    "listing",
    "lock_file",
    "put_aside",
    "put_aside_unless_starting",
    "retire",
]

#: Seconds for a master to end when it is asked to; then it is killed.
END_TIMEOUT = 3.0
#: More masters than this are not kept: each holds about 4 MB and a log-in on its host.
DEFAULT_LIMIT = 64


class MasterInUse(NamedTuple):
    """A master, and who uses it."""

    master: Master
    sessions: int
    last_used: float
    """Unix seconds."""


def retire(master: Master, timeout: float = END_TIMEOUT) -> bool:
    """End it and its sessions; whether it was seen to be gone. Safe to repeat.

    It is asked to, then told to, then killed, each for up to ``timeout`` seconds.
    """
    records.withdraw(master)
    if not processes.is_stopped(master.pid):
        with contextlib.suppress(OSError, ProtocolError, DeniedError):
            control = Control.connect(master.socket, min(timeout, ANSWER_TIMEOUT))
            with contextlib.closing(control):
                control.terminate(min(timeout, ANSWER_TIMEOUT))
        processes.await_no_master(master.pid, master.socket, timeout)
    is_gone = _end(master.pid, master.socket, timeout)
    if is_gone:
        records.discard(master.socket)
    return is_gone


def listing() -> list[MasterInUse]:
    """All masters in our folder, the oldest first. What is dead is cleaned up where that can be."""
    folder = control_folder()
    live = sorted(_live(folder), key=lambda master: master.started_at)
    with contextlib.suppress(OSError):
        _clean(folder)
    return [
        MasterInUse(master, usage.count(master.socket), usage.last_used(master.socket))
        for master in live
    ]


def cap(limit: int = DEFAULT_LIMIT) -> int:
    """Retire the masters that have been idle for longest, until ``limit`` are left; how many.

    One that is in use is never among them.
    """
    known = listing()
    idle = sorted((m for m in known if not m.sessions), key=lambda m: m.last_used)
    ended = 0
    for candidate in idle[: max(0, len(known) - limit)]:
        put_aside(candidate.master)
        ended += 1
    return ended


def put_aside(master: Master) -> None:
    """Let nobody new use it, and end it unless somebody does.

    Whoever wants to use it has first marked that he does, and then looks for the socket: either
    his mark is seen here, or he finds no socket.
    """
    records.withdraw(master)
    master.socket.unlink(missing_ok=True)
    _end_unless_used(master.pid, master.socket)


def put_aside_unless_starting(master: Master) -> None:
    """`put_aside`, unless somebody starts another for the connection: he does it himself."""
    with _exclusively(master.socket) as is_mine:
        if is_mine:
            put_aside(master)


def lock_file(folder: Path, name: str) -> Path:
    """Held by whoever starts a master for a connection, or puts one aside."""
    return folder / f"{name}.lock"


def _end_unless_used(pid: int, socket: Path) -> None:
    is_master = processes.is_master(pid, socket)
    if is_master and usage.count(socket) and not processes.is_stopped(pid):
        return  # it ends by itself when its last session has ended (ControlPersist)
    if not is_master or _end(pid, socket, END_TIMEOUT):
        records.discard(socket)


def _end(pid: int, socket: Path, timeout: float) -> bool:
    """Whether it is gone, or was no master of ours."""
    processes.kill(pid, socket, signal.SIGTERM)
    # A stopped process ends of nothing but a kill.
    if not processes.is_stopped(pid) and processes.await_no_master(pid, socket, timeout):
        return True
    processes.kill(pid, socket, signal.SIGKILL)
    return processes.await_no_master(pid, socket, timeout)


def _live(folder: Path) -> Iterator[Master]:
    """The masters that answer; any other is put aside."""
    for master in records.current(folder):
        if answers(master):
            yield master
        else:
            with contextlib.suppress(OSError):
                put_aside_unless_starting(master)


def _clean(folder: Path) -> None:
    """End what nobody uses any more, and remove what is left over."""
    for master in records.retired(folder):
        _end_unless_used(master.pid, master.socket)
    running = {socket: pid for pid, socket in processes.masters_in(folder)}
    for socket in {*records.strays(folder), *running}:
        with _exclusively(socket) as is_mine:  # else its start is under way
            if is_mine and not records.is_known(socket):
                _end_unless_used(running.get(socket, 0), socket)
    for lock in folder.glob("*.lock"):
        with locks.locked(lock, timeout=0) as is_mine:
            if is_mine and not any(folder.glob(f"{lock.stem}.??????*")):
                lock.with_suffix(".fail").unlink(missing_ok=True)
                records.pointer(lock.with_suffix("")).unlink(missing_ok=True)
                locks.remove(lock)


def _exclusively(socket: Path) -> contextlib.AbstractContextManager[bool]:
    name = socket.name.partition(".")[0]
    return locks.locked(lock_file(socket.parent, name), timeout=0)
