"""Do the same work for many hosts, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

__all__ = ["FANOUT", "each"]

#: Default number of items under way at the same time.
FANOUT = 64

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
    with ThreadPoolExecutor(min(fanout, len(items)) or 1, "ringtasks-fanout") as threads:
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
