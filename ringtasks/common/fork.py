"""Descriptors that a forked child must not keep, such as locks and the ends of pipes.

A child of fork(2) has a copy of each descriptor.  As long as it lives, a lock of an ended parent
stays locked (flock(2)), and the reader of a pipe sees no end of file.  Programs that are started
are not affected (Python's descriptors are close-on-exec), but a child that never calls exec is: a
worker of PyTorch's DataLoader, of multiprocessing or of gunicorn.

In the child each such descriptor is replaced by /dev/null, so that objects of the parent which
close it there do no harm.  Locks of threads are reset by the modules that own them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections.abc import Iterable, Iterator
from typing import Protocol

__all__ = ["DescriptorHolder", "held", "not_for_children"]


class DescriptorHolder(Protocol):
    """An object that knows its open descriptors."""

    def descriptors(self) -> Iterable[int]:
        """Return the descriptors that are open now."""


_holders: weakref.WeakSet[DescriptorHolder] = weakref.WeakSet()
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_descriptors: set[int] = set()


def not_for_children(owner: DescriptorHolder | socket.socket) -> None:
    """Replace the owner's descriptors in each child that is forked while it lives."""
    if isinstance(owner, socket.socket):
        _sockets.add(owner)
    else:
        _holders.add(owner)


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
    open_now.update(sock.fileno() for sock in list(_sockets))
    for holder in list(_holders):
        open_now.update(holder.descriptors())
    open_now.discard(-1)
    if not open_now:
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in open_now:
        with contextlib.suppress(OSError):
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


os.register_at_fork(after_in_child=_replace_all)
