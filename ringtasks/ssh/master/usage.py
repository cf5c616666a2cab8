"""The users of a master: a locked file for each open session, of any process.

The lock ends with its process, so a mark without a lock belongs to an ended process, and the next
process that finds it removes it.  A master itself does not report its open sessions.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

from ringtasks.common.file_lock import locked, try_lock
from ringtasks.common.fork import not_for_children

from .control import answers
from .records import Master

__all__ = ["MasterUse", "SessionTurn", "count", "last_used"]

_MARK = ".use-"
_QUEUE = ".queue"


#: Errors of a full or read-only disk: without a mark this master is used all the same, since a new
#: one could not be started there either.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class MasterUse:
    """One session's use of a master, of which a mark tells other processes.

    :param timeout: seconds for the host to open a channel.
    :param silence_timeout: seconds without a message after which the session checks that the master
        answers; the master itself watches the host. None: never.
    :param on_end: called once, when the use has ended.
    :raises OSError: the folder of the marks is gone, or cannot be used.
    """

    def __init__(
        self,
        master: Master,
        timeout: float,
        silence_timeout: float | None,
        on_end: Callable[[], None],
    ) -> None:
        self._master, self.timeout, self.silence_timeout = master, timeout, silence_timeout
        self._descriptor: int | None = None
        not_for_children(self)
        try:
            self._make_mark()
        except OSError as error:
            if error.errno not in _FULL:
                raise
        self._on_end: Callable[[], None] | None = on_end

    def _make_mark(self) -> None:
        while self._descriptor is None:
            self._path = f"{self._master.socket}{_MARK}{os.urandom(6).hex()}"
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # `count` holds the lock for a moment at most
            if os.fstat(descriptor).st_nlink:
                self._descriptor = descriptor
            else:  # `count` came first and removed it as an ended process's mark
                os.close(descriptor)

    def descriptors(self) -> list[int]:
        """Return the descriptor of the mark, if there is one."""
        return [] if self._descriptor is None else [self._descriptor]

    def is_master_alive(self) -> bool:
        """Return True if the master answers."""
        return answers(self._master)

    def window_changed(self) -> None:
        """Tell the master that a terminal has a new size."""
        # clientloop.c, window_change_handler: the master looks at the sizes of all its terminals.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._master.pid, signal.SIGWINCH)

    def end(self) -> None:
        """Release the master: the session is over. Safe to repeat."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108  # hot
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.utime(f"{self._master.socket}.json")  # see `last_used`
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


class SessionTurn:
    """The right to ask a master for a session after it had no room for one.

    One process asks at a time, or hundreds would keep the master busy with refusals.
    """

    def __init__(self, socket: Path) -> None:
        self._path = f"{socket}{_QUEUE}"
        self._lock: contextlib.ExitStack | None = None

    def is_taken(self) -> bool:
        """Return True if another process, or another link of this one, already waits for room."""
        if self._lock is not None or not os.path.exists(self._path):  # noqa: PTH110  # hot
            return False
        if self.take(0.0):
            self.release()
            return False
        return True

    def take(self, timeout: float) -> bool:
        """Wait for the turn, up to ``timeout`` seconds; True if it is taken."""
        if self._lock is not None:
            return True
        lock = contextlib.ExitStack()
        try:
            is_mine = lock.enter_context(locked(Path(self._path), timeout))
        except OSError:  # a full disk: every process then asks without a turn
            return True
        if is_mine:
            self._lock = lock
        return is_mine

    def release(self) -> None:
        """Let the next process ask. Safe to repeat."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()


def count(socket: Path) -> int:
    """Return the number of open sessions over the master, of all processes.

    It is 0 if the folder of the marks is gone: no further session can be opened then.
    """
    try:
        names = os.listdir(socket.parent)  # noqa: PTH208  # Path.iterdir is slower, and hot
    except FileNotFoundError:
        return 0
    marks = (socket.parent / name for name in names if name.startswith(f"{socket.name}{_MARK}"))
    return sum(map(_is_in_use, marks))


def last_used(socket: Path) -> float:
    """Return the Unix seconds of the last session's end, or of the start; 0 without a record."""
    try:
        return Path(f"{socket}.json").stat().st_mtime
    except OSError:
        return 0.0


def _is_in_use(mark: Path) -> bool:
    try:
        descriptor = os.open(mark, os.O_RDWR)
    except OSError:
        return False
    try:
        if not try_lock(descriptor):
            return True
        mark.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
