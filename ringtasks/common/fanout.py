"""Do the same work for many hosts, a bounded number at a time."""

from __future__ import annotations

import contextlib
import resource
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar, cast

from ringtasks.errors import UsageError

from .threads import start_thread

__all__ = ["FANOUT", "affordable", "each"]

#: Default number of items under way at the same time.
FANOUT = 64

Item = TypeVar("Item")
Answer = TypeVar("Answer")


#: Descriptors for one host under way: pipes, sockets, locks, and files that are read meanwhile.
_DESCRIPTORS_PER_HOST = 15
_OTHER_DESCRIPTORS = 20


def affordable(fanout: int) -> int:
    """Return the number of hosts at a time, at most ``fanout``, that ``ulimit -n`` allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return fanout
    return max(1, min(fanout, (soft - _OTHER_DESCRIPTORS) // _DESCRIPTORS_PER_HOST))


def each(
    items: Sequence[Item],
    work: Callable[[Item], Answer],
    fanout: int = FANOUT,
    *,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Item, Answer]]:
    """Yield each item with the result of ``work`` for it, in the order of completion.

    An exception of ``work`` is raised here.  If this machine allows no threads, the items are done
    one after another.  If the caller stops iterating, no more items are started, and those under
    way are waited for.

    :param on_interrupt: called before that wait if an exception was raised, Ctrl-C included; it may
        tell the items under way to end.
    """
    if fanout < 1:
        raise ValueError(f"fanout: expected at least 1, got {fanout}")
    work_of = _FanoutWork(items, work)
    threads = work_of.threads(min(affordable(fanout), len(items)))
    try:
        for _ in items:
            if not threads:
                work_of.one()
            item, answer = work_of.next()
            yield item, answer
    except BaseException:
        on_interrupt()
        raise
    finally:
        work_of.give_up()
        for thread in threads:
            thread.join()


class _FanoutWork(Generic[Item, Answer]):
    """The items that are left, and the answers that were not taken yet."""

    def __init__(self, items: Sequence[Item], work: Callable[[Item], Answer]) -> None:
        self._left = deque(items)
        self._work = work
        self._ended: SimpleQueue[tuple[Item, Answer | None, BaseException | None]] = SimpleQueue()

    def threads(self, count: int) -> list[threading.Thread]:
        """Start that many threads, or as many as this machine allows."""
        started = []
        with contextlib.suppress(UsageError):
            for _ in range(count):
                started.append(start_thread(self._all, name="ringtasks-fanout"))
        return started

    def one(self) -> bool:
        """Do the work for the next item; return False if none is left."""
        try:
            item = self._left.popleft()
        except IndexError:
            return False
        try:
            self._ended.put((item, self._work(item), None))
        except BaseException as error:  # noqa: BLE001  # raised where the answer is taken
            self._ended.put((item, None, error))
        return True

    def next(self) -> tuple[Item, Answer]:
        """Wait for the next answer, and return it with its item."""
        item, answer, error = self._ended.get()
        if error is not None:
            raise error
        return item, cast("Answer", answer)

    def give_up(self) -> None:
        """Start no more items."""
        self._left.clear()

    def _all(self) -> None:
        while self.one():
            pass
