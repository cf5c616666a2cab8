"""The same work for many hosts, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

__all__ = ["FANOUT", "each"]

#: At most so many at the same time, where nothing else is said.
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
    """Each item with what ``work`` answers for it, in the order in which they are done.

    What ``work`` raises is raised here.  Where the caller stops listening, no more are begun, and
    those under way are waited for.

    :param on_interrupt: called before that where it is Ctrl-C, or anything else that was raised:
        may tell those under way to end.
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
