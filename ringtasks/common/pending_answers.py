"""The hosts whose answer is awaited now, and notices of those that stay silent.

A task shows the notices to the person who waits (`watched`).  The library gives none: its caller
has not asked for text on stderr.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ringtasks.errors import UsageError

from . import interruption
from .threads import start_thread

__all__ = ["PendingAnswer", "awaiting", "watched"]

_LOOK_INTERVAL = 0.25  # seconds


class PendingAnswer:
    """A wait for the answer of one host.

    :param place: returns the routes that are tried; called in another thread.
    :param until: the monotonic time at which it is given up; None: it is not known.
    :param is_expected: returns True while the silence needs no notice, since it is a person who is
        awaited; called in another thread.
    """

    def __init__(
        self,
        host: str,
        place: Callable[[], str],
        until: float | None,
        is_expected: Callable[[], bool] = bool,
    ) -> None:
        self.host, self.place, self.until, self.is_expected = host, place, until, is_expected
        self.began = time.monotonic()


class _SilentHosts:
    """The thread that looks for silent hosts while a task runs; each host is told of once."""

    def __init__(self, delay: float, tell: Callable[[float, Sequence[PendingAnswer]], None]):
        self.pending: set[PendingAnswer] = set()
        self._delay, self._tell = delay, tell
        self._told: set[str] = set()
        self._changed = threading.Condition()
        self._is_over = False
        self._thread: threading.Thread | None = None

    def add(self, answer: PendingAnswer) -> None:
        with self._changed:
            is_first = not self.pending
            self.pending.add(answer)
            if is_first and self._thread is not None:
                self._changed.notify()
        # To start a thread, and to wait for its end, takes a quick command half a millisecond.
        if self._thread is None and not interruption.call_if_slow(self._start):
            self._start()

    def _start(self) -> None:
        with self._changed, contextlib.suppress(UsageError):  # it is not needed for the work
            if self._thread is None and not self._is_over:
                self._thread = start_thread(self._run, name="ringtasks-silent-hosts")

    def remove(self, answer: PendingAnswer) -> None:
        with self._changed:
            self.pending.discard(answer)

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()  # a thread that prints at the exit of Python would abort it

    def _run(self) -> None:
        while (silent := self._next()) is not None:
            if silent and interruption.status() is None:  # else the last line has been printed
                self._tell(self._delay, silent)

    def _next(self) -> list[PendingAnswer] | None:
        """Return the answers that are late now, after a while; None: the task is over."""
        with self._changed:
            if not self._is_over:
                self._changed.wait(_LOOK_INTERVAL if self.pending else None)
            if self._is_over:
                return None
            since = time.monotonic() - self._delay
            late = [each for each in self.pending if each.began <= since]
            unknown = [each for each in late if each.host not in self._told]
            silent = [each for each in unknown if not each.is_expected()]
            self._told.update(each.host for each in silent)
        return sorted(silent, key=lambda each: each.began)


_watch: _SilentHosts | None = None


def _forget() -> None:
    """Forget the watch in a forked child, whose copy of its lock may be held for ever."""
    global _watch
    _watch = None


os.register_at_fork(after_in_child=_forget)


_NO_WATCH = contextlib.nullcontext()


def awaiting(
    host: str,
    place: Callable[[], str],
    until: float | None = None,
    is_expected: Callable[[], bool] = bool,
) -> contextlib.AbstractContextManager[None]:
    """Wait for the answer of ``host`` within the block; see `PendingAnswer`."""
    if _watch is None:
        return _NO_WATCH
    return _added(_watch, PendingAnswer(host, place, until, is_expected))


@contextlib.contextmanager
def _added(watch: _SilentHosts, answer: PendingAnswer) -> Iterator[None]:
    watch.add(answer)
    try:
        yield
    finally:
        watch.remove(answer)


@contextlib.contextmanager
def watched(delay: float, tell: Callable[[float, Sequence[PendingAnswer]], None]) -> Iterator[None]:
    """Tell of the hosts that have been silent for ``delay`` seconds, within the outermost block.

    :param tell: called with ``delay`` and the answers that are late, in another thread.
    """
    global _watch
    if _watch is not None:
        yield
        return
    _watch = watch = _SilentHosts(delay, tell)
    try:
        yield
    finally:
        _watch = None
        watch.end()
