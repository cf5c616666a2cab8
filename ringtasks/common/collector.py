"""Python's garbage collector, paused while much is loaded that stays."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

__all__ = ["loading", "paused"]


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
