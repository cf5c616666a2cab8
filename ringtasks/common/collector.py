"""Python's garbage collector, paused while much is loaded that stays, and the end of modules."""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
import threading
from collections.abc import Iterator

__all__ = ["keep_modules_at_exit", "loading", "make_seldom", "paused", "seldom"]

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


def keep_modules_at_exit() -> None:
    """Let Python empty, at its exit, only the modules of users, which may hold open files.

    To empty those of Python, Invoke and ringtasks, function by function, takes 4 ms.  To be called
    early: functions for the exit that are registered later run before this one, and may import.
    """
    atexit.register(_forget_modules)


def _forget_modules() -> None:
    own = sys.stdlib_module_names | {"invoke", "ringtasks"}
    names = [name for name in sys.modules if name.partition(".")[0] in own]
    # Python empties a module if something refers to it after the last collection, which leaves out
    # frozen objects: `sys` does, the last one to be emptied.
    vars(sys)["modules_of_users"] = [sys.modules[name] for name in sys.modules.keys() - names]
    if threading.active_count() <= 2:  # beside the thread that reads signals, others may import
        for name in names:
            del sys.modules[name]
