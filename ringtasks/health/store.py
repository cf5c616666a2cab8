"""The health file: one JSON file that every ringtasks process reads and writes.

Each change is one read, one merge and one write under a lock, and the write replaces the file
atomically (rename(2)), so no count is lost and a crash leaves the old file or the new one.  Readers
need no lock.  The file is not synced to the disk: fsync would cost more than the rest of a short
run, and lost counts do little harm.  The end of a process cannot tear the file; a power failure can
leave a damaged one, which is set aside.  An error with the file is a warning and never ends a run.

A rehearsal reads the file and writes to a copy in memory: its failures change the order of its own
routes, and no later run's.
"""

from __future__ import annotations

import atexit
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

from ringtasks.common import rehearsal
from ringtasks.common.atomic_file import replace_file
from ringtasks.common.file_lock import try_lock
from ringtasks.common.fork import held
from ringtasks.errors import StateFileError
from ringtasks.inventory.state_files import health_file

from .entries import Document, health_of, put, to_json
from .json_format import DamagedError, decode, empty, encode
from .model import HOST_CIRCUIT, ROUTE_CIRCUIT, HostOutcome, SSHHealth, with_closed_circuits
from .prepared import PreparedFile, prepared

__all__ = ["HealthStore", "to_json"]

LOCK_TIMEOUT = 5.0  # seconds; a writer holds the lock for about a millisecond
BUSY_FACTOR = 12  # maximum number of lock timeouts to wait while other writers make progress

_T = TypeVar("_T")
_Expected = tuple[HostOutcome, PreparedFile]

#: Warnings already shown: each is shown once per process, by any store.
_warned: set[str] = set()


class _Queue:
    """Outcomes that the threads of this process have to record in one file."""

    def __init__(self) -> None:
        self.waiting: list[HostOutcome] = []
        self.writing = threading.Lock()
        self.has_next_writer = False
        """True if a thread waits for its turn to write the waiting outcomes."""
        self.expected: _Expected | None = None
        """An outcome that is likely the next one, and the file with it."""
        self.published: PreparedFile | None = None
        """Closed later: that frees the blocks of the file that it has replaced."""

    def expect(self, expected: _Expected | None) -> _Expected | None:
        """Set the outcome that is expected, and return the one before."""
        with _queues_lock:
            before, self.expected = self.expected, expected
        return before

    def close_published(self) -> None:
        with _queues_lock:
            published, self.published = self.published, None
        if published is not None:
            published.close()

    def release(self) -> None:
        """Close the prepared files."""
        self.close_published()
        _close(self.expect(None))


_queues: dict[Path, _Queue] = {}
#: The copies of files that rehearsals have changed, by rehearsal.
_rehearsed: dict[tuple[str, Path], bytes] = {}
_queues_lock = threading.Lock()


def _forget_queues() -> None:
    """Reset the state in a forked child: the threads that hold the locks are the parent's.

    The outcomes that wait are the parent's, too: it records them.
    """
    global _queues_lock
    _queues_lock = threading.Lock()
    for queue in _queues.values():
        queue.release()
    _queues.clear()


os.register_at_fork(after_in_child=_forget_queues)


@atexit.register
def _write_all() -> None:
    """Write the outcomes that wait for a thread, which may be a daemon and end with the process."""
    for path in list(_queues):
        HealthStore(path).write_waiting()


def _say(text: str) -> None:
    print(f"ringtasks: warning: {text}", file=sys.stderr)


class HealthStore:
    """Reader and writer of the health file; safe to use from several threads and processes.

    :param path: default: `health_file` at the time of the call.
    :param warn: called for errors with the file, once per process for each; default: stderr.
    :param lock_timeout: seconds to wait for the lock while no other writer makes progress; then the
        change is dropped. If others make progress, `BUSY_FACTOR` times as long.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        warn: Callable[[str], None] = _say,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        # A symbolic link stays a link (dotfiles may be kept elsewhere): its target is replaced, and
        # the lock is beside the target, so that all names of one file share one lock.
        self.path = Path(os.path.realpath(path or health_file()))
        self._lock = self.path.with_name(f".{self.path.name}.lock")
        # One name is enough under the lock: a draft that a killed writer left is overwritten.
        self._draft = self.path.with_name(f".{self.path.name}.new")
        self._tell = warn
        self._lock_timeout = lock_timeout

    def load(self, names: Iterable[str] | None = None) -> dict[str, SSHHealth]:
        """Return the health by name, of those hosts that were tried (``names`` None: all).

        If there is no readable file, it is empty.
        """
        wanted = None if names is None else set(names)

        def look(document: Document) -> dict[str, SSHHealth]:
            hosts = document["hosts"]
            known = hosts if wanted is None else wanted & hosts.keys()
            return {name: health_of(document, name) for name in known}

        return self._look(look, {})

    def get(self, name: str) -> SSHHealth:
        """Return a host's health; a fresh one for a host that was never tried."""
        return self._look(lambda document: health_of(document, name), SSHHealth())

    def record(self, outcomes: Iterable[HostOutcome]) -> None:
        """Count outcomes, and write them to the file.

        Threads that record at the same time share a write.  During a write, the first thread to
        arrive waits for it and then writes for all threads that arrive meanwhile; these return at
        once, and their outcomes are written by that thread.
        """
        with _queues_lock:
            queue = _queues.setdefault(self.path, _Queue())
            queue.waiting += outcomes
            if queue.has_next_writer:
                return
            queue.has_next_writer = True
        self._write_waiting(queue)

    def prepare(self, outcome: HostOutcome) -> None:
        """Prepare the file for an outcome that is likely the next to be recorded.

        To be called while a remote command runs.  Nothing is counted.
        """
        with _queues_lock:
            queue = _queues.setdefault(self.path, _Queue())
        known = queue.expected
        if rehearsal.token() or queue.writing.locked() or (known and known[1].is_current):
            return
        queue.close_published()
        with contextlib.suppress(DamagedError):
            made = prepared(self.path, lambda text: encode(_counted(decode(text), [outcome])))
            if made is not None:
                _close(queue.expect((outcome, made)))

    def release(self) -> None:
        """Close the files that `prepare` keeps open."""
        queue = _queues.get(self.path)
        if queue is not None:
            queue.release()

    def write_waiting(self) -> None:
        """Write the outcomes that threads have given to `record`, and wait until it is done."""
        queue = _queues.get(self.path)
        if queue is not None:
            self._write_waiting(queue)

    def _write_waiting(self, queue: _Queue) -> None:
        try:
            queue.writing.acquire()
        except BaseException:  # Ctrl-C: let another thread be the next writer
            queue.has_next_writer = False
            raise
        try:
            with _queues_lock:
                noted, queue.waiting = queue.waiting, []
                queue.has_next_writer = False
            if noted and not self._published(queue, noted):
                self._update(lambda document: bool(_counted(document, noted)))
        finally:
            queue.writing.release()

    def _published(self, queue: _Queue, noted: list[HostOutcome]) -> bool:
        """Record the outcome for which the file is prepared; False: it is another one."""
        queue.close_published()
        expected = queue.expect(None)
        if expected is None:
            return False
        is_likely = len(noted) == 1 and noted[0].is_like(expected[0]) and not rehearsal.token()
        if is_likely:
            with contextlib.suppress(StateFileError), self._locked():
                if expected[1].publish(self._draft):
                    queue.published = expected[1]
                    return True
        _close(expected)
        return False

    def reset(self, names: Iterable[str] | None = None) -> int:
        """Forget hosts (None: all); return the number of those that were known."""
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
        """Forget the consecutive failures of a host and its routes; the total counts stay."""

        def close(document: Document) -> bool:
            if name not in document["hosts"]:
                return False
            put(document, name, with_closed_circuits(health_of(document, name)), time.time())
            return True

        self._update(close)

    def claim_probe(self, name: str, route: str | None, now: float) -> bool:
        """Return True if the caller may try the route (None: the host).

        A closed circuit admits every caller, one inside its back-off none.  After the back-off it
        admits exactly one caller, until that one's outcome is recorded or its claim expires.  If
        the file cannot be written, every caller is admitted.
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
        self.write_waiting()  # this thread may not have waited for its own record

        def judge(document: Document) -> bool:
            view(document)
            return False

        try:
            return view(self._read())
        except DamagedError:
            self._update(judge)  # again, under the lock: a writer may just have replaced it
        except StateFileError as error:
            self._warn(error)
        return otherwise

    def _update(self, change: Callable[[Document], bool]) -> bool:
        """Apply ``change`` and write the file if it returns True; return False if that failed.

        If the file is damaged, ``change`` is called a second time, on an empty document.
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
        if (copy := _rehearsed.get((rehearsal.token(), self.path))) is not None:
            return decode(copy)
        self._check_kind()
        with self._trouble("cannot be read"), contextlib.suppress(FileNotFoundError):
            return decode(self.path.read_bytes())
        return empty()

    def _check_kind(self) -> None:
        # Opening a pipe would hang, and as root a write would replace a device such as /dev/null.
        with self._trouble("cannot be read"), contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise StateFileError(str(self.path), "is not a regular file")

    def _set_aside(self, damage: DamagedError) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time():.6f}")
        with self._trouble(f"is damaged ({damage}) and cannot be set aside"):
            self.path.rename(aside)
        self._warn(StateFileError(str(self.path), f"is damaged ({damage}): set aside as {aside}"))

    def _write(self, text: bytes) -> None:
        if token := rehearsal.token():
            _rehearsed[token, self.path] = text
            return
        with self._trouble("cannot be written"):
            replace_file(self.path, text, draft=self._draft)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Each write replaces the file itself, so the lock is on a file beside it, which is never
        # removed: otherwise two processes could each hold a lock of that name.
        self._check_kind()
        with self._trouble("cannot be locked"):
            descriptor = _open_lock(self._lock)
        try:
            with self._trouble("cannot be locked"):
                if not try_lock(descriptor):
                    self._wait_for_turn(descriptor)
            with held(descriptor):
                yield
        finally:
            # Closing is not enough: a child forked meanwhile has a copy of it until it calls exec.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _wait_for_turn(self, descriptor: int) -> None:
        # flock(2) has no time limit, and the signals that could interrupt it belong to the program.
        # Polling starves: fifty writers on two busy cores waited for more than 5 s.  So a thread
        # waits in the kernel with a copy of the descriptor.  Both descriptors are one lock (they
        # share an open file description), which is released when both are closed; on a timeout this
        # thread closes its own first.
        copy = os.dup(descriptor)
        waiter = threading.Thread(target=_queue_up, args=(copy,), daemon=True)
        try:
            waiter.start()
        except RuntimeError as error:  # too many threads, or the interpreter is shutting down
            os.close(copy)
            raise StateFileError(str(self.path), f"is locked: {error}") from error
        if not self._joined(waiter):
            raise StateFileError(str(self.path), f"was locked for {self._lock_timeout:g} s")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours already, unless flock failed

    def _joined(self, waiter: threading.Thread) -> bool:
        # flock(2) is not fair: it wakes all waiting threads, and any of them may be next. On a
        # loaded machine one of fifty writers can wait for longer than the limit, which is for
        # a writer that hangs. Each write replaces the file, which shows that others make progress.
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


def _counted(document: Document, noted: Iterable[HostOutcome]) -> Document:
    """Count outcomes in the document."""
    touched: dict[str, SSHHealth] = {}
    for outcome in noted:
        health = touched.get(outcome.host) or health_of(document, outcome.host)
        touched[outcome.host] = health.after(outcome)
    for name, health in touched.items():
        put(document, name, health, time.time())
    return document


def _close(expected: _Expected | None) -> None:
    if expected is not None:
        expected[1].close()


def _open_lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags, 0o600)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, flags, 0o600)


def _queue_up(descriptor: int) -> None:
    with contextlib.suppress(OSError), held(descriptor):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)
