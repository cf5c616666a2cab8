"""Lock files: each lock ends with its holder, and waiting for one has a limit (flock(2))."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.fork import held

__all__ = ["locked", "try_lock"]

#: Seconds between tries, since flock(2) has no time limit; a log-in, which it guards, takes longer.
_LOOK_INTERVAL = 0.02


@contextlib.contextmanager
def locked(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock file ``path``; yields True if it was acquired within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    descriptor = _acquired(path)
    while descriptor is None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            yield False
            return
        # Random, so that hundreds of processes do not look at the same moment.
        time.sleep(min(remaining, _LOOK_INTERVAL * (0.5 + os.urandom(1)[0] / 255)))
        descriptor = _acquired(path)
    try:
        with held(descriptor):
            yield True
    finally:
        # A child that is forked meanwhile may have a copy, which closing does not unlock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file if no other process holds it (flock(2)); True if it did."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquired(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        # A previous holder removed a file that has no name: other processes lock the new one.
        if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
            stack.pop_all()
            return descriptor
    return None
