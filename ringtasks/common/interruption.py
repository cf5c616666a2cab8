"""Ctrl-C, TERM and HUP: report them at once, end in time, with the exit status that shells use.

The first signal prints one line and raises KeyboardInterrupt in the main thread, so that the work
under way is ended.  If the process still runs after `GRACE` seconds, because a host or a thread
does not answer, it exits all the same.  A block that needs more time to end remote processes
announces it (`ending`).  A further signal within `REPEAT_TIME` counts as the same: people press
Ctrl-C twice, and supervisors send several signals.  A later one exits at once, and prints what
remains.

A thread of its own reads the signals (`signal.set_wakeup_fd`): the main thread may be in a system
call that no signal ends, such as getaddrinfo(3).  The kernel may also give a signal to another
thread, above all the second of two that come at once, and the first with it; the system call of the
main thread goes on then.  So the thread wakes the main thread until it has seen the signal.  A
signal that was ignored when the process started stays ignored, as nohup(1) wants it.

Only programs get this: in a Python caller's process, the handlers are in place during a task, and
the process goes on after it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, Union

from .program_name import is_program, runs_task

__all__ = [
    "GRACE",
    "REPEAT_TIME",
    "Text",
    "also",
    "begin",
    "call_if_slow",
    "ending",
    "exit_at_once",
    "guarded",
    "handled",
    "on_exit",
    "said_as",
    "status",
]

#: Seconds for the work under way to end after the first signal.
GRACE = 1.0
#: Seconds after the first signal in which a further one counts as the same: a double tap, no more.
REPEAT_TIME = 0.3
#: Seconds after which an announced end is printed: most ends are faster.
_ANNOUNCE_DELAY = 0.15
_QUICK = 0.25  # seconds in which most tasks end; they need no further thread
_LOOK_INTERVAL = 0.02  # seconds; an end that is announced that late still seems immediate
#: Seconds after the second signal to report the processes that remain.
_REPORT_TIME = 3.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Ends a system call of the main thread; ignored by default, and rarely used.
_WAKE = signal.SIGURG
_DEFAULT = "interrupted"

#: A text, or a function that returns it when it is needed, in another thread.
Text = Union[str, Callable[[], Union[str, None]], None]  # noqa: UP007  # evaluated, in 3.10 too


class _Shutdown:
    """A block that may take longer to end than `GRACE`."""

    def __init__(self, seconds: float, text: str, remains: str, *, reports: bool) -> None:
        self.seconds, self.text, self.remains, self.reports = seconds, text, remains, reports
        self.began_at = time.monotonic()


class _Guard:
    """The signal handlers of this process, from its outermost task on."""

    def __init__(self, *, is_for_good: bool) -> None:
        self.is_for_good = is_for_good
        self.depth = 0
        self.number: int | None = None
        """The first signal that came."""
        self.texts: list[Text] = [_DEFAULT]
        self.endings: list[_Shutdown] = []
        self.has_told = threading.Event()
        """Set once the thread has taken note of the first signal."""
        self.on_exit: list[Callable[[], None]] = []
        self._text: Text = None
        self._has_said = False
        self._announced: set[str] = set()
        self._count = 0  # of the signals that differ, as the thread has read them
        self._raised_count = 0  # the signals for which KeyboardInterrupt was raised
        self._is_counting = False
        self._signalled_at = self._freed_at = 0.0
        self._exit_by: float | None = None
        self._unreported: list[str] = []  # the processes that remain, until they are reported
        self._handlers: dict[int, Any] = {}
        self._reader = self._writer = -1
        self.is_quick = False
        """True in the first `_QUICK` seconds of a task; then the thread calls ``if_slow``."""
        self.if_slow: Callable[[], None] | None = None

    def install(self) -> None:
        for number in _SIGNALS:
            self.handle(number)

    def handle(self, number: int) -> bool:
        """Handle a signal; return False if it stays ignored, or is handled already."""
        if signal.getsignal(number) is signal.SIG_IGN or number in self._handlers:
            return False
        self._handlers[number] = signal.signal(number, self._on_signal)
        return True

    def restore(self, *numbers: int) -> None:
        for number in numbers or tuple(self._handlers):
            if number in self._handlers:
                signal.signal(number, self._handlers.pop(number))

    def watch(self) -> None:
        """Start the thread that reads the signals."""
        reader, self._writer = os.pipe()
        self._reader, self.is_quick, self.if_slow = reader, True, None
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if signal.getsignal(_WAKE) is signal.SIG_DFL:
            signal.signal(_WAKE, _wake)
        # The pipe is the thread's own: that of the task before may still be ending.
        thread = threading.Thread(target=self._watch, args=(reader,), name="ringtasks-signals")
        thread.daemon = True
        thread.start()

    def unwatch(self) -> None:
        self.is_quick = False
        signal.set_wakeup_fd(-1)
        os.close(self._writer)  # ends the thread
        if signal.getsignal(_WAKE) is _wake:
            signal.signal(_WAKE, signal.SIG_DFL)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Run in the main thread, before or after the thread has read the signal."""
        if self.depth:
            self._note(number)
            if self._is_new():
                raise KeyboardInterrupt
            return
        if self.number is not None:  # the program is exiting
            if self._is_repeated():
                return
            os._exit(128 + self.number)
        if self.is_for_good and not runs_task(frame):
            _print(_DEFAULT)
            os._exit(128 + number)
        # A task of another package runs: Invoke decides what the signal does.
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _is_new(self) -> bool:
        """Return whether KeyboardInterrupt still has to be raised for the last signal.

        The thread decides which signals are the same: the main thread may run its handler late.
        """
        limit = time.monotonic() + _REPORT_TIME
        while self._raised_count and self._is_unread() and time.monotonic() < limit:
            time.sleep(_LOOK_INTERVAL / 4)
        count = max(1, self._count)
        is_new = self._raised_count < count
        self._raised_count = count
        return is_new

    def _is_unread(self) -> bool:
        return self._is_counting or _readable(self._reader, 0)

    def _is_repeated(self) -> bool:
        return time.monotonic() < self._signalled_at + REPEAT_TIME

    def _await_signal(self, reader: int, quick_until: float) -> None:
        if self.is_quick:
            if _readable(reader, max(0.0, quick_until - time.monotonic())):
                return
            self.is_quick = False
            if (action := self.if_slow) is not None:
                action()
        _readable(reader)

    def _watch(self, reader: int) -> None:
        quick_until = time.monotonic() + _QUICK
        while True:
            self._await_signal(reader, quick_until)
            # Before the read, so that each signal is in one of the two places at any time.
            self._is_counting = True
            read = os.read(reader, 64)
            if not read:
                break
            # Those that came before this thread could run are of the same moment.
            numbers = [number for number in read if number in self._handlers]
            if numbers and (self.depth or self._count):
                self._arrived(numbers[0])
            self._is_counting = False
        os.close(reader)

    def _note(self, number: int) -> None:
        """Record the state at the first signal, before its KeyboardInterrupt leaves any block."""
        if self.number is None:
            self._text = None if self.endings else self.texts[-1]
            self._signalled_at = time.monotonic()
            self.number = number

    def _arrived(self, number: int) -> None:
        if self._count and self._is_repeated():
            return
        self._count += 1
        if self._count == 1:
            self._note(number)
            self._say(_text_of(self._text))
            self.has_told.set()
            threading.Thread(target=self._await_end, daemon=True).start()
        elif self._count == 2 and any(ending.reports for ending in self.endings):
            self._exit_by = time.monotonic() + _REPORT_TIME
            self._unreported = [ending.remains for ending in self.endings]
        else:
            self._exit()

    def _await_end(self) -> None:
        while self.number is not None:
            now = time.monotonic()
            for ending in list(self.endings):
                began_at = max(ending.began_at, self._signalled_at)
                if now >= began_at + _ANNOUNCE_DELAY and ending.text not in self._announced:
                    self._announced.add(ending.text)  # the steps of a deploy share their text
                    self._say(ending.text)
            if now >= self._limit():
                self._exit()
            time.sleep(_LOOK_INTERVAL)
            if self.depth and self._raised_count < self._count:
                self._wake_main_thread()

    def _wake_main_thread(self) -> None:
        ident = threading.main_thread().ident
        if ident is not None and signal.getsignal(_WAKE) is _wake:
            signal.pthread_kill(ident, _WAKE)

    def _limit(self) -> float:
        if self._exit_by is not None:
            return self._exit_by
        limits = [max(e.began_at, self._signalled_at) + e.seconds for e in list(self.endings)]
        return max(self._signalled_at + GRACE, self._freed_at + GRACE, *limits, 0.0)

    def freed(self, ending: _Shutdown) -> None:
        self.endings.remove(ending)
        if ending.reports and self.number is not None:
            self._unreported = [ending.remains]
        self._freed_at = time.monotonic()

    def _exit(self) -> None:
        own = [ending.remains for ending in self.endings] or self._unreported
        remains = [text for text in own if text]
        if remains or not self._has_said:
            self._say(remains[-1] if remains else _text_of(self.texts[-1]) or _DEFAULT)
        self.exit(128 + (self.number or signal.SIGINT))

    def exit(self, status: int) -> NoReturn:
        for action in reversed(self.on_exit):
            with contextlib.suppress(Exception):
                action()
        os._exit(status)

    def _say(self, text: str | None) -> None:
        if text:
            self._has_said = True
            _print(text)


_guard: _Guard | None = None


def begin() -> None:
    """Handle signals from now on to the end of the process, if it is a program (`is_program`)."""
    global _guard
    if _guard is None and is_program() and _is_main_thread():
        _guard = _Guard(is_for_good=True)
        _guard.install()
        sys.unraisablehook = _report_unraisable


def _report_unraisable(found: Any) -> None:
    """Report an exception that the interpreter ignores, but no reported interrupt.

    A KeyboardInterrupt within a callback, such as that of a module's lock, does not leave it; the
    process exits after `GRACE`.
    """
    if found.exc_type is not KeyboardInterrupt or status() is None:
        sys.__unraisablehook__(found)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Handle signals within the block, which is a task; see `status`."""
    global _guard
    if not _is_main_thread():
        yield  # Python leaves signals to the main thread
        return
    guard = _guard = _guard or _Guard(is_for_good=False)
    if not guard.depth:
        guard.install()
        if guard.number is None:
            guard.watch()
    guard.depth += 1
    try:
        yield
    finally:
        if guard.number is not None:
            guard.has_told.wait(_LOOK_INTERVAL * 10)
        guard.depth -= 1
        if not guard.depth and (guard.number is None or not guard.is_for_good):
            guard.number = None
            guard.unwatch()
            if not guard.is_for_good:
                guard.restore()
                _guard = None


def call_if_slow(action: Callable[[], None]) -> bool:
    """Call ``action`` once in another thread if the task takes more than a moment.

    The last one counts.  False: it has taken more by now, or it is not in the main thread.
    """
    if _guard is None:
        return False
    _guard.if_slow = action
    return _guard.is_quick  # looked at last: the thread resets it first


def status() -> int | None:
    """Return the exit status for the signal that came: 130, 143 or 129; None: none came."""
    number = _guard.number if _guard is not None else None
    return None if number is None else 128 + number


def handled() -> None:
    """Let the process end with its own exit status after a KeyboardInterrupt that was handled.

    CPython sets a flag when one leaves code that was compiled from a string, such as that of a
    dataclass while a module is imported.  ``python -m`` then ends by SIGINT, although the exception
    was handled.  Evaluating another string clears the flag (pythonrun.c, run_eval_code_obj).
    """
    eval("0")  # noqa: S307  # nosec B307: a constant


@contextlib.contextmanager
def said_as(text: Text) -> Iterator[None]:
    """Print this text at the first signal within the block; None: the block prints its own."""
    if _guard is None:
        yield
        return
    guard = _guard
    guard.texts.append(text)
    try:
        yield
    finally:
        guard.texts.pop()


@contextlib.contextmanager
def ending(
    seconds: float, text: str, *, remains: str = "", reports: bool = False
) -> Iterator[None]:
    """Allow the block ``seconds`` to end after a signal, which may come before or within it.

    :param text: printed in place of the usual line, if the end takes time.
    :param remains: printed if the process exits before the block has ended.
    :param reports: a signal after `REPEAT_TIME` raises KeyboardInterrupt once more, and the block
        reports what remains; one after that exits at once.
    """
    guard = _guard
    if guard is None:
        yield
        return
    own = _Shutdown(seconds, text, remains, reports=reports)
    guard.endings.append(own)
    try:
        yield
    finally:
        guard.freed(own)


@contextlib.contextmanager
def on_exit(action: Callable[[], None]) -> Iterator[None]:
    """Call ``action`` if the process exits within the block without leaving it."""
    guard = _guard
    if guard is None:
        yield
        return
    guard.on_exit.append(action)
    try:
        yield
    finally:
        guard.on_exit.remove(action)


@contextlib.contextmanager
def also(*numbers: int) -> Iterator[None]:
    """Handle more signals within the block, such as QUIT."""
    guard = _guard
    if guard is None or not _is_main_thread():
        yield
        return
    added = [number for number in numbers if guard.handle(number)]
    try:
        yield
    finally:
        for number in added:
            guard.restore(number)


def exit_at_once(status: int, text: str) -> None:
    """End the process from any thread, as a second signal would; in a program only."""
    if _guard is not None:
        _print(text)
        _guard.exit(status)


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: Python calls the handlers of the signals that came before, too."""


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _readable(descriptor: int, timeout: float | None = None) -> bool:
    """Wait until there is something to read, at most ``timeout`` seconds; None: no limit."""
    poll = select.poll()  # unlike select(2), it takes descriptors from 1024 on
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def _text_of(text: Text) -> str | None:
    return text() if callable(text) else text


def _print(text: str) -> None:
    """Write a line without the buffers, whose locks the main thread may hold."""
    end = "\r\n" if os.isatty(2) else "\n"  # a terminal in raw mode does not return by itself
    with contextlib.suppress(OSError):
        os.write(2, f"ringtasks: {text}{end}".encode("utf-8", "replace"))
