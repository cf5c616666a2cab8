"""The threads in which asynchronous calls wait: as many as are used at once, up to a bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .processor import Company, leave

__all__ = ["MAX_THREADS", "call", "shut_down"]

#: Further calls wait in a queue, first in, first out.
MAX_THREADS = 128

T = TypeVar("T")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """Reset the state in a forked child, which has none of the pool's threads."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


os.register_at_fork(after_in_child=_forget_pool)


async def call(
    work: Callable[[], T], cancel: Callable[[], None], company: Company | None = None
) -> T:
    """Return the result of ``work``, run in a thread of the pool; from any event loop.

    If the awaiting task is cancelled, ``cancel`` is called, at once and from this thread: it must
    make ``work`` return soon.  A call that has not started yet is removed from the queue.

    :param company: the calls over the same connection, if this one runs no code of users.
    """
    with company or contextlib.nullcontext():
        future = _executor().submit(_run, work, company)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancelled():
                cancel()
            raise


def _run(work: Callable[[], T], company: Company | None) -> T:
    if company is None:
        leave()  # a thread of the pool stays with its last company
    else:
        company.gather()
    return work()


def shut_down() -> None:
    """Wait for the calls under way, and end the threads. The next call starts new ones."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=True, cancel_futures=True)


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="ringtasks-call")
        return _pool
