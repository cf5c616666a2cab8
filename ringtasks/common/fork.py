"""Forked children: descriptors that they must not keep, and work of threads that they lack.

A child of fork(2) has a copy of each descriptor.  As long as it lives, a lock of an ended parent
stays locked (flock(2)), and the reader of a pipe sees no end of file.  Programs that are started
are not affected (Python's descriptors are close-on-exec), but a child that never calls exec is: a
worker of PyTorch's DataLoader, of multiprocessing or of gunicorn.

In the child each such descriptor is replaced by /dev/null, so that objects of the parent which
close it there do no harm.  A lock of a module is replaced by a new one (`RenewedLock`).

Python's lock of a module that another thread imports stays locked in the child, which would wait
for it for ever.  Modules of this package are imported late, in the thread that connects, so a fork
waits until no thread imports any for it.  It also waits until no thread starts a program for it:
the child would keep the ends of its pipes that the parent is about to close, and their readers
would wait for the child.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from types import FrameType

from .light_typing import Protocol

__all__ = ["DescriptorHolder", "RenewedLock", "held", "not_for_children", "wait_for_threads"]


class RenewedLock:
    """A ``lock`` that is new in each forked child: a thread of the parent may hold the old one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()


class DescriptorHolder(Protocol):
    """An object that knows its open descriptors."""

    def descriptors(self) -> Iterable[int]:
        """Return the descriptors that are open now."""


#: Seconds that a fork waits for other threads; the slowest imports take a quarter of a second.
_WAIT_LIMIT = 10.0
_LOOK_INTERVAL = 0.002  # seconds; most imports take milliseconds
_PACKAGE = __name__.partition(".")[0]

_owners: weakref.WeakSet[DescriptorHolder | socket.socket] = weakref.WeakSet()
_descriptors: set[int] = set()


def not_for_children(owner: DescriptorHolder | socket.socket) -> None:
    """Replace the owner's descriptors in each child that is forked while it lives."""
    _owners.add(owner)


@contextlib.contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Replace the descriptor in each child that is forked meanwhile."""
    _descriptors.add(descriptor)
    try:
        yield
    finally:
        _descriptors.discard(descriptor)


def _replace_all() -> None:
    open_now = set(_descriptors)
    for owner in list(_owners):
        if isinstance(owner, socket.socket):
            open_now.add(owner.fileno())
        else:
            open_now.update(owner.descriptors())
    open_now.discard(-1)
    if not open_now:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in open_now:
        with contextlib.suppress(OSError):
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def wait_for_threads() -> None:
    """Let each fork from now on wait for what other threads import or start for this package."""
    import logging  # noqa: F401  # locks itself before a fork, and what is imported needs it: it
    # has to be registered before, so that its turn comes after the wait.

    os.register_at_fork(before=_await_threads)


def _await_threads() -> None:
    """Wait until no other thread imports modules or starts a program for this package.

    A fork within an import does not wait: the other thread may wait for that import.
    """
    own = threading.get_ident()
    if _is_busy(sys._getframe()):
        return
    deadline = time.monotonic() + _WAIT_LIMIT
    while time.monotonic() < deadline:
        frames = [frame for ident, frame in sys._current_frames().items() if ident != own]
        if not any(map(_is_busy, frames)):
            return
        del frames
        time.sleep(_LOOK_INTERVAL)


def _is_busy(frame: FrameType | None) -> bool:
    """Return True if this package imports a module there, or starts a program (subprocess)."""
    is_busy = False
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        is_import = frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        is_start = module == "subprocess" and frame.f_code.co_name == "__init__"
        is_busy = is_busy or is_import or is_start
        if is_busy and module.partition(".")[0] == _PACKAGE:
            return True
        frame = frame.f_back
    return False


os.register_at_fork(after_in_child=_replace_all)
