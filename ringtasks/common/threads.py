"""Start threads; if a limit of this machine is reached, say which one it is."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Any

from ringtasks.errors import StateFileError, UsageError

__all__ = ["NO_MEMORY", "start_thread", "start_timer", "translated"]

#: The evidence and the advice if this machine gives the process no more memory.
NO_MEMORY = (
    "this machine allows no more memory: raise the limit with 'ulimit -v', use fewer hosts at a "
    "time (--fanout), or let the command print less"
)

#: CPython's text; it has no class of its own.
_REFUSED = "can't start new thread"
_STATE_ADVICE = "free space there or make it writable, or set XDG_STATE_HOME to another folder"


def start_thread(target: Callable[..., None], *args: Any, name: str) -> threading.Thread:
    """Return a daemon thread that has been started.

    :raises UsageError: this machine allows no more threads.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    with translated():
        thread.start()
    return thread


def start_timer(seconds: float, action: Callable[[], object], *, name: str) -> threading.Timer:
    """Return a timer that has been started, and does not hold up the exit of Python."""
    timer = threading.Timer(seconds, action)
    timer.daemon, timer.name = True, name
    timer.start()
    return timer


class translated:  # used as a function; a generator costs each command three times as much
    """Translate a refused thread or process in the block into a `UsageError`.

    :param host: the host that the block is about; then a state file that cannot be written is its
        error, too.

    :raises UsageError: this machine allows no more of them.
    :raises MemoryError: also if a system call fails for want of memory.
    """

    def __init__(self, host: str = "") -> None:
        self._host = host

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        host = self._host
        if isinstance(error, StateFileError):
            if host:
                raise UsageError(f"{host}: {error}; {_STATE_ADVICE}") from error
        elif isinstance(error, RuntimeError):
            if str(error) == _REFUSED:
                raise _refused(host, _REFUSED) from error
        elif isinstance(error, ImportError):  # dlopen(3), mmap(2)
            if "failed to map segment" in str(error):
                raise MemoryError from None
        elif isinstance(error, OSError):
            if error.errno == errno.ENOMEM:
                raise MemoryError from None
            if error.errno == errno.EAGAIN and error.filename is None:
                raise _refused(host, f"fork: {error.strerror}") from error


def _refused(host: str, evidence: str) -> UsageError:
    return UsageError(
        f"{f'{host}: ' if host else ''}this machine allows no more threads or processes "
        f"({evidence}): raise the limit with 'ulimit -u', or use fewer hosts at a time (--fanout)"
    )
