"""The standard streams of the program: encodings, a stdout that cannot be written to, errors."""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from types import TracebackType

from invoke import Exit

from ringtasks.common.text import visible
from ringtasks.common.threads import NO_MEMORY
from ringtasks.exit_status import USAGE

__all__ = ["BROKEN_PIPE_STATUS", "prepare", "written"]

BROKEN_PIPE_STATUS = 128 + 13  # the status that shells give to SIGPIPE
#: Python's error handlers for stdout; the second one is that of the locale C.
_RAISING = ("strict", "surrogateescape")
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT, errno.EFBIG)


def prepare() -> None:
    """Prepare the program's end, also for what Invoke itself prints (``inv --list | head``)."""
    _occupy()
    sys.excepthook = _told
    atexit.register(_flush)


def _occupy() -> None:
    """Open the null device in the place of a standard stream that is closed.

    OpenSSH does the same. Else a file or a connection gets its number, and programs that are
    started write to it; and a message for a stderr of None is printed on stdout.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # for good


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Turn a failure to write to stdout, during a task, into an `Exit` with one line.

    :raises Exit: stdout is closed, full, or its reader has exited ("inv run … | head").
    """
    if sys.stdout is None:
        raise Exit("ringtasks: stdout is closed", code=1)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in _RAISING:
        # A file's name may be of any bytes, and the locale's encoding may be ASCII.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # Remote output bypasses the buffers of print(), so flush the text printed before it.
        sys.stdout.flush()
        yield
        sys.stdout.flush()
    except OSError as error:
        if not _is_of_stdout(error):
            raise
        told = _discard(error)
        raise Exit(told, code=1 if told else BROKEN_PIPE_STATUS) from None


def _is_of_stdout(error: OSError) -> bool:
    """Return True if the error may come from a write to stdout."""
    if error.errno not in _UNWRITABLE or error.filename is not None:
        return False
    if error.errno != errno.EBADF:
        return True
    try:
        os.fstat(1)
    except OSError:
        return True
    return False  # a socket was closed


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, MemoryError):
        sys.stderr.write(f"ringtasks: {NO_MEMORY}\n")
        return
    if not isinstance(error, OSError) or not _is_of_stdout(error):
        from .config_files import fault  # only an error needs it

        found = fault()
        if found is None:
            sys.__excepthook__(kind, error, trace)
        else:
            print(f"ringtasks: {visible(found)}", file=sys.stderr)
            sys.exit(USAGE)  # an exit of the hook is the program's
        return
    if told := _discard(error):
        print(told, file=sys.stderr)


def _flush() -> None:
    """Flush stdout while a failure can still be reported: at the exit Python prints a traceback."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        # Waits for a thread that is writing: at the exit Python aborts if a thread holds the lock.
        sys.stderr.flush()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        told = _discard(error)
        if told:
            print(told, file=sys.stderr, flush=True)
        os._exit(1 if told else BROKEN_PIPE_STATUS)


def _discard(error: OSError) -> str | None:
    """Discard the rest of the output; return the message, None if its reader has exited."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return None if error.errno == errno.EPIPE else f"ringtasks: stdout: {error.strerror}"
