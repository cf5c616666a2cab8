"""Addresses that do not answer, on loopback: a full backlog drops each further connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["blackhole"]


@contextmanager
def blackhole(address: str = "127.0.0.1") -> Iterator[int]:
    """A port at which connections are neither accepted nor refused."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind((address, 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(3):
            filling = opened.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex((address, port))
        yield port
