"""Escape characters of an interactive shell, as in ssh.  Pure.

They are recognised at the beginning of a line only.  Source: ssh(1), ESCAPE CHARACTERS.
"""

from __future__ import annotations

import enum

__all__ = ["HELP", "Escape", "EscapeFilter"]

_TILDE = b"~"
HELP = (
    b"Supported escape sequences:\r\n"
    b" ~.  - end the connection\r\n"
    b" ~?  - this message\r\n"
    b" ~~  - send the escape character\r\n"
    b"(Escapes are recognised at the beginning of a line only.)\r\n"
)


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
