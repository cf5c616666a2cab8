"""Python's garbage collector, paused while much is loaded that stays."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

__all__ = ["loading", "make_seldom", "paused", "seldom"]

#: New objects before a collection; Python's 700 are one host's of a run on many.
_SELDOM = 20_000
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


def make_seldom() -> None:
    """Make few garbage collections from now on, in all threads of this process.

    A threshold that the program has set higher, or 0 (none), stays.
    """
    first, *others = gc.get_threshold()
    if first:
        gc.set_threshold(max(first, _SELDOM), *others)


@contextlib.contextmanager
def seldom() -> Iterator[None]:
    """Make few garbage collections while the block runs, as `make_seldom`."""
    _before.append(gc.get_threshold())
    make_seldom()
    try:
        yield
    finally:
        usual = _before[0]
        _before.pop()
        if not _before:
            gc.set_threshold(*usual)
