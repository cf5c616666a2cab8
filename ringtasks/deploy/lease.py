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

from ringtasks.common import fork
from ringtasks.common.cancellation import Cancellation
from ringtasks.inventory.state_files import state_folder

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
    """Background renewal of locks, within its context: each in a thread, so none waits for another.

    :param on_lost: called with a lock that was lost, or that cannot be renewed, and the reason, in
        another thread.
    :param interval: seconds between two renewals.
    """

    def __init__(
        self, on_lost: Callable[[Lockable, str], None], interval: float = RENEW_INTERVAL
    ) -> None:
        self._on_lost, self._interval = on_lost, interval
        self._cancellation = Cancellation()
        self._threads: list[threading.Thread] = []

    def add(self, target: Lockable) -> None:
        """Renew this host's lock from now on."""
        thread = threading.Thread(
            target=self._keep, args=(target,), name="ringtasks-lease", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be started
            self._on_lost(target, f"the lock cannot be renewed: {error}")
        else:
            self._threads.append(thread)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cancellation.cancel()
        for thread in self._threads:
            thread.join()

    def _keep(self, target: Lockable) -> None:
        while not self._cancellation.wait(self._interval):
            try:
                held = target.renew(self._cancellation)
            except Exception as error:  # noqa: BLE001  # a lock that is not renewed is not ours
                if not self._cancellation.is_cancelled:
                    self._on_lost(target, f"the lock cannot be renewed: {error}")
                return
            if held is not None:
                self._on_lost(target, f"the lock is held by {held}")
                return


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
            held.enter_context(fork.held(file.fileno()))  # a child would keep it after a kill -9
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
