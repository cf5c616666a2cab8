"""Waiting for what happens elsewhere, without sleeping for luck."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["eventually", "interrupted"]

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout: float = 60.0) -> T:
    """Return the first true result of ``condition``."""
    deadline = time.monotonic() + timeout
    began = time.monotonic()
    while not (value := condition()):
        now = time.monotonic()
        assert now < deadline, "it did not happen"
        time.sleep(max(0.01, 2 * (now - began)))  # what is awaited needs the processor, too
        began = time.monotonic()
    return value


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Send a signal to the main thread every 20 ms; a wait in it may last for 200 of them."""
    main, is_over, came = threading.get_ident(), threading.Event(), []

    def interrupt() -> None:
        while not is_over.wait(0.02):
            signal.pthread_kill(main, signal.SIGUSR1)

    def note(*_: object) -> None:
        came.append(1)
        assert len(came) < 200, "the wait goes on"

    before = signal.signal(signal.SIGUSR1, note)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
