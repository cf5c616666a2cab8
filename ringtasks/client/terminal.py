"""This machine's terminal and standard input, for remote commands."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from ringtasks.common import interruption
from ringtasks.common.regular_file import is_null_device

if TYPE_CHECKING:
    from ringtasks.ssh.link import Terminal

__all__ = ["piped_stdin", "raw_mode", "requested_terminal", "watch_size"]

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
#: Signals that do not end a process by default, and KILL, which cannot be handled.  signal(7)
_HARMLESS = {
    getattr(signal, f"SIG{name}")
    for name in ["KILL", "STOP", "TSTP", "TTIN", "TTOU", "CONT", "CHLD", "URG", "WINCH", "INFO"]
    if hasattr(signal, f"SIG{name}")
} | (set() if sys.platform == "linux" else {signal.SIGIO})


def piped_stdin(*, even_terminal: bool = False) -> BinaryIO | None:
    """Return our stdin if something is piped in; None if there is nothing to pass on.

    :param even_terminal: pass on typed input, too.
    """
    try:
        if (os.isatty(0) and not even_terminal) or is_null_device(os.fstat(0)):
            return None
        # Unbuffered: a thread that still waits in a buffered read when the program ends would hold
        # the buffer's lock and take the interpreter down.
        return open(0, "rb", buffering=0, closefd=False)
    except OSError:  # closed, as under cron
        return None


def requested_terminal() -> Terminal:
    """Return the terminal to request from the host; without one of ours, it has 80 x 24."""
    from ringtasks.ssh.link import Terminal

    size = _size()
    return Terminal(os.environ.get("TERM", "xterm"), size.columns, size.lines)


@contextlib.contextmanager
def raw_mode() -> Iterator[None]:
    """Let this process's terminal, if it has one, pass on each key as it is while the block runs.

    A signal that would end the process restores the terminal first.
    """
    if not (os.isatty(0) and os.isatty(1)):
        yield
        return
    import termios
    import tty

    saved = termios.tcgetattr(0)
    try:
        with (
            interruption.also(*_fatal_signals()),
            interruption.on_exit(lambda: termios.tcsetattr(0, termios.TCSANOW, saved)),
        ):
            tty.setraw(0, termios.TCSADRAIN)  # TCSADRAIN keeps input that was typed ahead
            yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)


@contextlib.contextmanager
def watch_size(resized: Callable[[int, int], None]) -> Iterator[None]:
    """Call ``resized`` with columns and rows whenever the local terminal changes its size."""

    def on_change(*_: object) -> None:
        size = _size()
        resized(size.columns, size.lines)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python leaves signals to the main thread
        return
    previous = signal.signal(signal.SIGWINCH, on_change)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)


def _size() -> os.terminal_size:
    import shutil  # imported here, because it loads all compression modules

    return shutil.get_terminal_size()


def _fatal_signals() -> tuple[int, ...]:
    """Return the signals that would end this process now, except for those of faults.

    A handler of Python cannot end a fault: the faulty instruction would run again.
    """
    return tuple(
        number
        for number in signal.valid_signals() - _FAULTS - _HARMLESS
        if signal.getsignal(number) is signal.SIG_DFL
    )
