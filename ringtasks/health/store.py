"""The health file: one JSON file that every ringtasks process reads and writes.

Each change is one read, one merge and one write under a lock, and the write replaces the file in
one step (rename(2)), so no count is lost and a crash leaves the old file or the new one.  Readers
need no lock.  Nothing is synced to the disk, which would cost more than the rest of a short run:
health is a memory, not a ledger.  The death of a process cannot tear the file, and a power cut
leaves at worst a damaged one, which is set aside.  Trouble with the file is a warning, never the
end of a run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ringtasks.errors import StateFileError
from ringtasks.inventory.config import health_file

from .codec import DamagedError, Document, decode, empty, encode, health_of, put, to_json
from .model import HOST_CIRCUIT, ROUTE_CIRCUIT, Outcome, SSHHealth, with_closed_circuits

__all__ = ["HealthStore", "to_json"]

LOCK_TIMEOUT = 5.0  # seconds; a writer holds the lock for about a millisecond
BUSY_FACTOR = 12  # as many lock timeouts, if other writers are seen to get on meanwhile

_T = TypeVar("_T")

#: Told once a process, whichever store meets them.
_warned: set[str] = set()


class _Queue:
    """What the threads of this process have to record in one file."""

    def __init__(self) -> None:
        self.waiting: list[Outcome] = []
        self.writing = threading.Lock()
        self.has_next_writer = False
        """Whether a thread waits that is going to write what is waiting."""


_queues: dict[Path, _Queue] = {}
_queues_lock = threading.Lock()


def _say(text: str) -> None:
    print(f"ringtasks: warning: {text}", file=sys.stderr)


class HealthStore:
    """Reads and writes the health file.  Safe to use from several threads and processes.

    :param path: default `config.health_file`, as it is now.
    :param warn: is told of trouble with the file, once a process for each; default: stderr.
    :param lock_timeout: seconds to wait for a writer that does not get on, after which the change
        is dropped. Writers that do get on are waited for `BUSY_FACTOR` times as long.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        warn: Callable[[str], None] = _say,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        # A link stays a link (dotfiles live elsewhere): its target is replaced, and the lock is
        # beside the target, so that all names of one file share one lock.
        self.path = Path(os.path.realpath(path or health_file()))
        self._tell = warn
        self._lock_timeout = lock_timeout

    def load(self, names: Iterable[str] | None = None) -> dict[str, SSHHealth]:
        """The health by name of hosts that were tried; of these, or of all.

        Empty where there is no file, or none that can be read.
        """
        wanted = None if names is None else set(names)

        def look(document: Document) -> dict[str, SSHHealth]:
            hosts = document["hosts"]
            known = hosts if wanted is None else wanted & hosts.keys()
            return {name: health_of(document, name) for name in known}

        return self._look(look, {})

    def get(self, name: str) -> SSHHealth:
        """One host's health; a fresh one for a host that was never tried."""
        return self._look(lambda document: health_of(document, name), SSHHealth())

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes; they are in the file when this returns.

        Threads that record at the same time share a write.  While one is under way, the first to
        come waits for it and then writes for all who come meanwhile; those do not wait for him.
        """
        with _queues_lock:
            queue = _queues.setdefault(self.path, _Queue())
            queue.waiting += outcomes
            if queue.has_next_writer:
                return
            queue.has_next_writer = True
        self._write_waiting(queue)

    def _write_waiting(self, queue: _Queue) -> None:
        try:
            queue.writing.acquire()
        except BaseException:  # Ctrl-C: let another thread be the next
            queue.has_next_writer = False
            raise
        try:
            with _queues_lock:
                noted, queue.waiting = queue.waiting, []
                queue.has_next_writer = False
            if noted:
                self._count(noted)
        finally:
            queue.writing.release()

    def _count(self, noted: list[Outcome]) -> None:
        def count(document: Document) -> bool:
            touched: dict[str, SSHHealth] = {}
            for outcome in noted:
                health = touched.get(outcome.host) or health_of(document, outcome.host)
                touched[outcome.host] = health.after(outcome)
            for name, health in touched.items():
                put(document, name, health, time.time())
            return bool(touched)

        self._update(count)

    def reset(self, names: Iterable[str] | None = None) -> int:
        """Forget hosts (None: all); the number of those that were known."""
        wanted = None if names is None else set(names)
        forgotten: set[str] = set()

        def forget(document: Document) -> bool:
            hosts = document["hosts"]
            forgotten.clear()
            forgotten.update(hosts if wanted is None else wanted & hosts.keys())
            for name in forgotten:
                del hosts[name]
            return bool(forgotten)

        return len(forgotten) if self._update(forget) else 0

    def close_circuits(self, name: str) -> None:
        """Forget the failures in a row of a host and its routes; what was counted in all stays."""

        def close(document: Document) -> bool:
            if name not in document["hosts"]:
                return False
            put(document, name, with_closed_circuits(health_of(document, name)), time.time())
            return True

        self._update(close)

    def claim_probe(self, name: str, route: str | None, now: float) -> bool:
        """Whether the caller may try the route (None: the host) as if it were well.

        A route that has not been failing lets everybody through, one inside its back-off nobody.
        One past it lets exactly one caller through, until his outcome is recorded or his claim
        expires.  A file that cannot be written stops nobody.
        """
        granted = True

        def claim(document: Document) -> bool:
            nonlocal granted
            host = health_of(document, name)
            known = host if route is None else host.transports.get(route, SSHHealth())
            claimed = (HOST_CIRCUIT if route is None else ROUTE_CIRCUIT).claim(known, now)
            granted = claimed is not None
            if claimed is None or claimed is known:
                return False
            if route is not None:
                claimed = replace(host, transports={**host.transports, route: claimed})
            put(document, name, claimed, now)
            return True

        return not self._update(claim) or granted

    def _look(self, view: Callable[[Document], _T], otherwise: _T) -> _T:
        queue = _queues.get(self.path)
        if queue is not None:
            self._write_waiting(queue)  # who asks now may have recorded, and not waited

        def judge(document: Document) -> bool:
            view(document)
            return False

        try:
            return view(self._read())
        except DamagedError:
            self._update(judge)  # once more, under the lock: a writer may just have replaced it
        except StateFileError as error:
            self._warn(error)
        return otherwise

    def _update(self, change: Callable[[Document], bool]) -> bool:
        """Whether the file holds the change, if ``change`` says that it made one.

        ``change`` is called a second time, on an empty document, when the file proves damaged.
        """
        try:
            with self._locked():
                try:
                    document = self._read()
                    text = encode(document) if change(document) else None
                except DamagedError as error:
                    self._set_aside(error)
                    document = empty()
                    text = encode(document) if change(document) else None
                if text is not None:
                    self._write(text)
        except StateFileError as error:
            self._warn(error)
            return False
        return True

    def _read(self) -> Document:
        self._check_kind()
        with self._trouble("cannot be read"), contextlib.suppress(FileNotFoundError):
            return decode(self.path.read_bytes())
        return empty()

    def _check_kind(self) -> None:
        # To open a pipe would hang, and what root puts in the place of /dev/null is a disaster.
        with self._trouble("cannot be read"), contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise StateFileError(str(self.path), "is not a regular file")

    def _set_aside(self, damage: DamagedError) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time():.6f}")
        with self._trouble(f"is damaged ({damage}) and cannot be set aside"):
            self.path.rename(aside)
        self._warn(StateFileError(str(self.path), f"is damaged ({damage}): set aside as {aside}"))

    def _write(self, text: bytes) -> None:
        # One name is enough, since the lock is ours: what a killed writer left is overwritten.
        draft = self.path.with_name(f".{self.path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with self._trouble("cannot be written"):
                with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
                    os.fchmod(file.fileno(), 0o600)  # it may have been there, or the umask be odd
                    file.write(text)
                draft.replace(self.path)
        except StateFileError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # The file itself is replaced by each write, so the lock is on one beside it, which stays:
        # to remove it would let two processes each hold a lock of that name.
        self._check_kind()
        with self._trouble("cannot be locked"):
            descriptor = _open_lock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            with self._trouble("cannot be locked"):
                self._acquire(descriptor)
            yield
        finally:
            # Closing is not enough: a child forked meanwhile holds a copy until it calls exec.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _acquire(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait_for_turn(descriptor)

    def _wait_for_turn(self, descriptor: int) -> None:
        # flock(2) knows no time limit, and a signal to interrupt it belongs to the program.  To
        # poll starves: fifty writers on two busy cores waited for more than 5 s.  So a thread
        # queues up in the kernel with a copy of the descriptor.  Both are one lock (they share an
        # open file description), which goes when both are closed: here first, if this gives up.
        copy = os.dup(descriptor)
        waiter = threading.Thread(target=_queue_up, args=(copy,), daemon=True)
        try:
            waiter.start()
        except RuntimeError as error:  # too many of them, or the interpreter is shutting down
            os.close(copy)
            raise StateFileError(str(self.path), f"is locked: {error}") from error
        if not self._joined(waiter):
            raise StateFileError(str(self.path), f"was locked for {self._lock_timeout:g} s")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours already, unless that failed

    def _joined(self, waiter: threading.Thread) -> bool:
        # flock(2) is not fair: it wakes all who wait, and any of them may be next. On a loaded
        # machine one of fifty writers can be passed over for longer than the limit, which is meant
        # for a writer that hangs. Each write replaces the file, so others are seen to get on.
        version = self._version()
        for _ in range(BUSY_FACTOR):
            waiter.join(self._lock_timeout)
            before, version = version, self._version()
            if not waiter.is_alive() or version == before:
                break
        return not waiter.is_alive()

    def _version(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    @contextlib.contextmanager
    def _trouble(self, what: str) -> Iterator[None]:
        try:
            yield
        except StateFileError:
            raise
        except OSError as error:
            raise StateFileError(str(self.path), f"{what}: {error.strerror}") from error

    def _warn(self, error: StateFileError) -> None:
        text = f"{error}; the run goes on without it"
        if text not in _warned:
            _warned.add(text)
            self._tell(text)


def _open_lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags, 0o600)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, flags, 0o600)


def _queue_up(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)
