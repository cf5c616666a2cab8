"""The locks of a running deploy: renewed while it runs, and free soon after it has ended.

On its own machine the end is known at once: a running deploy holds flock(2) on a file named after
its token, and the kernel drops that lock however the deploy ends.  Another machine only sees that
the lock is no longer renewed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ringtasks.common.cancellation import Cancellation
from ringtasks.common.fanout import each
from ringtasks.inventory.config import state_folder

from .locking import LockState

__all__ = ["RENEW_INTERVAL", "Lease", "is_dead", "life_sign"]


RENEW_INTERVAL = 10.0
_TOKEN = re.compile(r"[0-9a-f]{16}\Z")
_STALE = 86400.0  # seconds


class Lockable(Protocol):
    """Host whose lock is to be renewed."""

    def renew(self, cancellation: Cancellation) -> LockState | None:
        """Renew the lock.

        :returns: the new holder if the lock was lost; None: still ours, or not known.
        """


class Lease:
    """Background renewal of locks, within its context.

    :param on_lost: called with a lock that was lost and its new holder, in another thread.
    """

    def __init__(self, on_lost: Callable[[Lockable, LockState], None]) -> None:
        self._on_lost = on_lost
        self._targets: list[Lockable] = []
        self._cancellation = Cancellation()
        self._thread = threading.Thread(target=self._keep, name="ringtasks-lease", daemon=True)

    def add(self, target: Lockable) -> None:
        """Renew this host's lock from now on."""
        self._targets.append(target)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._cancellation.cancel()
        self._thread.join()

    def _keep(self) -> None:
        while not self._cancellation.wait(RENEW_INTERVAL):
            for target, held in each(tuple(self._targets), self._renewed):
                if held is not None:
                    self._targets.remove(target)
                    self._on_lost(target, held)

    def _renewed(self, target: Lockable) -> LockState | None:
        return None if self._cancellation.is_cancelled else target.renew(self._cancellation)


@contextlib.contextmanager
def life_sign(token: str) -> Iterator[None]:
    """Hold the file that makes `is_dead` return False in other processes of this machine.

    If the state folder cannot be written to, other deploys have to wait until the lock expires.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder = _folder()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _clear(folder)
            path = folder / token
            file = held.enter_context(path.open("w"))
            held.callback(path.unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_dead(token: str) -> bool:
    """Return True if the deploy ran on this machine and is known to have ended.

    :param token: as the host reported it.
    """
    if not _TOKEN.match(token):
        return False
    try:
        descriptor = os.open(_folder() / token, os.O_RDWR)
    except OSError:  # the deploy runs on another machine
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _clear(folder: Path) -> None:
    """Remove the files of deploys that ended more than a day ago."""
    for left in folder.iterdir():
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - _STALE and is_dead(left.name):
                left.unlink()


def _folder() -> Path:
    return state_folder() / "deploys"
