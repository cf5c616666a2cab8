"""Control masters: which there are, which may be used, and ending them.

A connection has a name: a hash over all that makes it differ from another.  At most one process at
a time starts a master for a name (`start`).  A master is used only if it answers, and only if the
keys that it trusted are those that are pinned now.  All of it is safe with hundreds of processes.

ssh itself is never asked to use a master: with a dead one it would dial on its own.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..config import SSHConfig
from ..errors import ProtocolError
from ..hostkeys import KnownHosts
from . import locks, processes, records, usage
from .control import Control, DeniedError, MasterGoneError
from .folder import control_folder
from .identity import control_name
from .records import Master

__all__ = [
    "Attached",
    "Master",
    "MasterInUse",
    "Probe",
    "attach",
    "cap",
    "find",
    "listing",
    "lock_file",
    "probe",
    "put_aside",
    "retire",
]

#: Seconds for a master to answer; it does nothing that takes longer than a millisecond.
ANSWER_TIMEOUT = 1.5
#: Seconds for one that is not stopped: it may be waiting for a processor among hundreds.
BUSY_TIMEOUT = 10.0
#: Seconds for a master to end when it is asked to; then it is killed.
END_TIMEOUT = 3.0
#: More masters than this are not kept: each holds about 4 MB and a log-in on its host.
DEFAULT_LIMIT = 64


class Probe(enum.Enum):
    """What there is behind a socket."""

    LIVE = "live"
    DEAD = "dead"
    HUNG = "hung"


class MasterInUse(NamedTuple):
    """A master, and who uses it."""

    master: Master
    sessions: int
    last_used: float
    """Unix seconds."""


def find(config: SSHConfig, transport: str | None = None) -> Master | None:
    """The live master for this connection, or None.

    One that is dead, hung or not to be trusted any more is put aside, and ended where that harms
    nobody.

    :raises StateFileError: the folder cannot be used, or the pins cannot be read.
    """
    found = attach(config, transport)
    if found is None:
        return None
    found.control.close()
    return found.master


class Attached(NamedTuple):
    """A master that has just answered, and the conversation in which it did."""

    master: Master
    control: Control


def attach(config: SSHConfig, transport: str | None = None) -> Attached | None:
    """As `find`; the conversation is the caller's to close."""
    folder = control_folder()
    name = control_name(config, transport, os.environ)
    for master in records.current(folder, name):
        control = _trusted(master, config)
        if control is not None:
            return Attached(master, control)
        with locks.locked(lock_file(folder, name), timeout=0) as is_mine:
            if is_mine:  # else somebody starts another one, and puts this one aside
                put_aside(master)
    return None


def probe(master: Master) -> Probe:
    """Whether it answers; up to `BUSY_TIMEOUT` seconds."""
    control, state = _probed(master)
    if control is not None:
        control.close()
    return state


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
    """All masters in our folder, the oldest first. What is dead is cleaned up."""
    folder = control_folder()
    live = sorted(_live(folder), key=lambda master: master.started_at)
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


def lock_file(folder: Path, name: str) -> Path:
    """Held by whoever starts a master for a connection, or puts one aside."""
    return folder / f"{name}.lock"


def _trusted(master: Master, config: SSHConfig) -> Control | None:
    """A conversation with it, if it answers and trusted what is trusted now."""
    if set(KnownHosts().pins(config)) != set(master.pins):
        return None
    return _probed(master)[0]


def _probed(master: Master) -> tuple[Control | None, Probe]:
    """A conversation with it if it is live."""
    patient_until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            return _greeted(master), Probe.LIVE
        except TimeoutError:
            # One that is not stopped may have to wait for a processor, with hundreds of others.
            if processes.is_stopped(master.pid) or time.monotonic() >= patient_until:
                return None, Probe.HUNG
        except (OSError, ProtocolError, DeniedError):
            return None, Probe.DEAD


def _greeted(master: Master) -> Control:
    control = Control.connect(master.socket, ANSWER_TIMEOUT)
    try:
        if control.alive(ANSWER_TIMEOUT) != master.pid:
            raise MasterGoneError("another process listens there")
    except BaseException:
        control.close()
        raise
    return control


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
        if probe(master) is Probe.LIVE:
            yield master
            continue
        with _exclusively(folder, master.socket) as is_mine:
            if is_mine:
                put_aside(master)


def _clean(folder: Path) -> None:
    """End what nobody uses any more, and remove what is left over."""
    for master in records.retired(folder):
        _end_unless_used(master.pid, master.socket)
    running = {socket: pid for pid, socket in processes.masters_in(folder)}
    for socket in {*records.strays(folder), *running}:
        with _exclusively(folder, socket) as is_mine:  # else its start is under way
            if is_mine and not records.is_known(socket):
                _end_unless_used(running.get(socket, 0), socket)
    for lock in folder.glob("*.lock"):
        with locks.locked(lock, timeout=0) as is_mine:
            if is_mine and not any(folder.glob(f"{lock.stem}.??????*")):
                lock.with_suffix(".fail").unlink(missing_ok=True)
                locks.remove(lock)


def _exclusively(folder: Path, socket: Path) -> contextlib.AbstractContextManager[bool]:
    name = socket.name.partition(".")[0]
    return locks.locked(lock_file(folder, name), timeout=0)
