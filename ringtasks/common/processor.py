"""One processor for the threads of a run on many hosts (sched_setaffinity(2), on Linux).

Python lets one thread run at a time.  Threads that wake up on several processors wait for each
other there, and the interpreter's memory moves from cache to cache: on one processor a run has 40 %
fewer switches of threads, and takes a quarter less processor time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["anywhere", "current", "stay_on"]

_STAT = "/proc/thread-self/stat"
_PROCESSOR_FIELD = 36  # counted from the one after the name; proc(5) counts it as 39


def current() -> int | None:
    """Return the processor that this thread runs on; None: the system does not tell."""
    try:
        with open(_STAT, "rb") as file:  # noqa: PTH123  # no Path for a run
            return int(file.read().rpartition(b")")[2].split()[_PROCESSOR_FIELD])
    except (OSError, ValueError, IndexError):
        return None


def stay_on(processor: int | None) -> None:
    """Keep this thread, and the threads that it starts, on one processor, if that can be had."""
    if processor is not None:
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setaffinity(0, {processor})


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    """Let a program that the block starts run on each processor that the main thread may use."""
    own = every = set[int]()
    with contextlib.suppress(OSError, AttributeError):
        own, every = os.sched_getaffinity(0), os.sched_getaffinity(os.getpid())
    if not own < every:
        yield
        return
    os.sched_setaffinity(0, every)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
