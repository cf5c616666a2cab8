"""Do the same work for many hosts, a bounded number at a time."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

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

    An exception of ``work`` is raised here.  If the caller stops iterating, no more items are
    started, and those under way are waited for.

    :param on_interrupt: called before that wait if an exception was raised, Ctrl-C included; it may
        tell the items under way to end.
    """
    if fanout < 1:
        raise ValueError(f"fanout: expected at least 1, got {fanout}")
    at_once = min(affordable(fanout), len(items)) or 1
    with ThreadPoolExecutor(at_once, "ringtasks-fanout") as threads:
        pending = {threads.submit(work, item): item for item in items}
        try:
            for done in as_completed(pending):
                yield pending[done], done.result()
        except BaseException:
            on_interrupt()
            raise
        finally:
            for future in pending:
                future.cancel()
