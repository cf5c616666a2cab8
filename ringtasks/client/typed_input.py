"""Keys typed at this machine's terminal, without the escape sequences among them.

Escapes are recognised at the beginning of a line only, as in ssh (ssh(1), ESCAPE CHARACTERS).
"""

from __future__ import annotations

import contextlib
import enum
import io
import os
import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from ringtasks.common.threads import start_thread

__all__ = ["Escape", "EscapeFilter", "TypedInput"]

_KEYS_BYTES = 32 * 1024
_STDERR = 2
_TILDE = b"~"
_HELP = (
    b"Supported escape sequences:\r\n"
    b" ~.  - end the connection\r\n"
    b" ~?  - this message\r\n"
    b" ~~  - send the escape character\r\n"
    b"(Escapes are recognised at the beginning of a line only.)\r\n"
)


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
            self._thread = start_thread(self._work, name="ringtasks-keys")
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
            os.write(_STDERR, _HELP)
            return
        self.has_left = True
        self._on_leave()


class Escape(enum.Enum):
    """Request of an escape sequence."""

    LEAVE = b"."
    HELP = b"?"


class EscapeFilter:
    """Takes escape sequences out of typed input; they may come in pieces."""

    def __init__(self) -> None:
        self._is_line_start = True
        self._has_tilde = False

    def feed(self, typed: bytes) -> tuple[bytes, list[Escape]]:
        """Return the input to send, and the escapes in it; nothing after `Escape.LEAVE` is read."""
        sent, escapes = bytearray(), []
        for key in (typed[at : at + 1] for at in range(len(typed))):
            if self._has_tilde:
                self._has_tilde = False
                if key in (Escape.LEAVE.value, Escape.HELP.value):
                    self._is_line_start = True
                    escapes.append(Escape(key))
                    if key == Escape.LEAVE.value:
                        break
                    continue
                if key != _TILDE:
                    sent += _TILDE
            elif self._is_line_start and key == _TILDE:
                self._has_tilde = True
                continue
            self._is_line_start = key in (b"\r", b"\n")
            sent += key
        return bytes(sent), escapes
