"""Keys typed at this machine's terminal, without the escape sequences among them."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from .escapes import HELP, Escape, EscapeFilter

__all__ = ["TypedInput"]

_KEYS_BYTES = 32 * 1024
_STDERR = 2


class TypedInput(io.RawIOBase):
    """Typed input without its escape sequences, for `pass_on`.

    It is read in a thread of its own from the first call of `read1` on: ``~.`` works while the host
    takes no more input, and a question of the log-in still gets its answer.

    :param on_leave: called once, in that thread, when the escape to leave was typed.
    """

    def __init__(self, stdin: BinaryIO, on_leave: Callable[[], None]) -> None:
        self.has_left = False
        """True once the escape to leave was typed."""
        self._stdin, self._on_leave = stdin, on_leave
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def read1(self, size: int = -1) -> bytes:
        """Return the next piece; empty at the end of the input."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ringtasks-keys", daemon=True)
            self._thread.start()
        return self._pieces.get()

    def _work(self) -> None:
        escapes = EscapeFilter()
        with contextlib.suppress(OSError, ValueError):
            while not self.has_left and (typed := self._stdin.read(_KEYS_BYTES)):
                sent, found = escapes.feed(typed)
                if sent:
                    self._pieces.put(sent)
                for escape in found:
                    self._obey(escape)
        if not self.has_left:
            self._pieces.put(b"")

    def _obey(self, escape: Escape) -> None:
        if escape is Escape.HELP:
            os.write(_STDERR, HELP)
            return
        self.has_left = True
        self._on_leave()
