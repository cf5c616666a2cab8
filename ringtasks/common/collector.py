"""Python's garbage collector, paused while much is loaded that stays."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

__all__ = ["loading", "paused", "seldom"]

_SELDOM = 20_000  # new objects; Python's 700 are one host's of a run on many
#: The thresholds before each block of `seldom` that is under way. A list's methods are atomic.
_before: list[tuple[int, int, int]] = []


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Make no garbage collections within the block.

    The collector would visit the modules or values again and again, and free none.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Make no garbage collections while the block imports modules.

    If the program has frozen the modules that it had loaded before (`gc.freeze`), these are frozen,
    too: the next collection would visit all of them.
    """
    known = len(sys.modules)
    with paused():
        yield
        if gc.get_freeze_count() and len(sys.modules) > known:
            gc.freeze()


@contextlib.contextmanager
def seldom() -> Iterator[None]:
    """Make few garbage collections while the block runs, in all threads of this process.

    A threshold that the program has set higher, or 0 (none), stays.
    """
    first, *others = before = gc.get_threshold()
    _before.append(before)
    if first:
        gc.set_threshold(max(first, _SELDOM), *others)
    try:
        yield
    finally:
        usual = _before[0]
        _before.pop()
        if not _before:
            gc.set_threshold(*usual)
