"""One process at a time: a lock that goes with its holder, and can be waited for with a limit."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["locked", "remove", "try_lock"]

_LOOK_INTERVAL = 0.02


@contextlib.contextmanager
def locked(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock file ``path``; yields whether it could be had within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    descriptor = _acquired(path)
    while descriptor is None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            yield False
            return
        # Spread, so that hundreds do not look at the same moment.
        time.sleep(min(remaining, _LOOK_INTERVAL * (0.5 + os.urandom(1)[0] / 255)))
        descriptor = _acquired(path)
    try:
        yield True
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove the lock file, by its holder: who waits for it makes a new one."""
    path.unlink(missing_ok=True)


def try_lock(descriptor: int) -> bool:
    """Lock an open file if nobody else has (flock(2))."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquired(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    # A file without a name was removed by the holder before: others lock the new one.
    if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
        return descriptor
    os.close(descriptor)
    return None
