"""Waiting for what happens elsewhere, without sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually"]

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
