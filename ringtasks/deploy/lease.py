"""The locks of a running deploy: renewed while it runs, and free soon after it has ended.

On its own machine the end is known at once: a running deploy holds flock(2) on a file named after
its token, and the kernel drops that lock however the deploy ends.  Another machine only sees that
the lock is no longer renewed.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ringtasks.common.cancellation import Cancellation
from ringtasks.common.file_lock import locked, try_lock
from ringtasks.common.threads import start_thread
from ringtasks.errors import UsageError
from ringtasks.inventory.state_files import state_folder

from .locking import LockState

__all__ = ["RENEW_INTERVAL", "Lease", "is_dead", "life_sign"]


RENEW_INTERVAL = 10.0
_TOKEN = re.compile(r"[0-9a-f]{16}\Z")
_STALE = 86400.0  # seconds


#: Renews a lock; returns the new holder if it was lost. None: it is still ours, or it is not known.
Renew = Callable[[Cancellation], "LockState | None"]
#: Called in another thread if a lock was lost, or cannot be renewed, with the reason.
OnLost = Callable[[str], None]


class Lease:
    """Background renewal of locks, within its context: each in a thread, so none waits for another.

    :param interval: seconds between two renewals.
    """

    def __init__(self, interval: float = RENEW_INTERVAL) -> None:
        self._interval = interval
        self._cancellation = Cancellation()
        self._threads: list[threading.Thread] = []

    def add(self, renew: Renew, on_lost: OnLost) -> None:
        """Renew a lock from now on."""
        try:
            thread = start_thread(self._keep, renew, on_lost, name="ringtasks-lease")
        except UsageError as error:  # this machine allows no more threads
            on_lost(f"the lock cannot be renewed: {error}")
        else:
            self._threads.append(thread)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cancellation.cancel()
        for thread in self._threads:
            thread.join()

    def _keep(self, renew: Renew, on_lost: OnLost) -> None:
        while not self._cancellation.wait(self._interval):
            try:
                held = renew(self._cancellation)
            except Exception as error:  # noqa: BLE001  # a lock that is not renewed is not ours
                if not self._cancellation.is_cancelled:
                    on_lost(f"the lock cannot be renewed: {error}")
                return
            if held is not None:
                on_lost(held.as_loss)
                return


@contextlib.contextmanager
def life_sign(token: str) -> Iterator[None]:
    """Hold the file that makes `is_dead` return False in other processes of this machine.

    If the state folder cannot be written to, other deploys have to wait until the lock expires.
    If the block raises an exception, it may leave locks on hosts: then the file stays.
    """
    path = _folder() / token
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _clear(path.parent)
            held.enter_context(locked(path, timeout=0))
        yield
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


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
        return try_lock(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Remove the files of deploys that ended more than a day ago."""
    for left in folder.iterdir():
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - _STALE and is_dead(left.name):
                left.unlink()


def _folder() -> Path:
    return state_folder() / "deploys"
