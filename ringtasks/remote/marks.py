"""The mark that proves that a host's answer comes from the script that was sent.  Pure.

A host may run another program than it was asked for: a forced command (sshd(8), ``command=``;
sshd_config(5), ``ForceCommand``), a login shell that refuses log-ins, a server program that knows
its own commands only.  Such a program may end with exit status 0.  So each script prints a mark
before its first output: a random word of this one exchange, a sum that a shell has to compute, and
the shell's process id.  The sum and the process id are not in the text that is sent, so a program
that repeats its input does not print the mark.

The bytes before the mark come from login files and are not part of the answer.  A script of
ringtasks itself prints the mark again after its last output, with its exit status: an answer that
was cut short, or whose exit status was lost, is not taken for a complete one.

Source: POSIX.1-2017 XCU 2.6.4 (arithmetic expansion; 32 bits are enough for the sum).
"""

from __future__ import annotations

import os

from ringtasks.common.light_typing import NamedTuple

__all__ = ["MAX_PREFACE_BYTES", "NO_STDIN", "Mark", "MarkedOutput", "NoMarkError"]

#: Bytes before the mark, beyond which it is no longer waited for.
MAX_PREFACE_BYTES = 16 * 1024 * 1024
#: The program of a host, if its shell could not read the script.
NO_STDIN = "a shell without the stdin for the command"
#: Bytes before the mark that are kept as evidence, in case the mark does not come.
_EVIDENCE_BYTES = 4096
#: More digits than any process id or exit status has.
_MAX_NUMBER_BYTES = 20


class NoMarkError(Exception):
    """The program on the host did not print the mark: it is not the script that was sent."""

    def __init__(self, evidence: str, status: int | None = None) -> None:
        self.evidence, self.status = evidence, status


class Mark(NamedTuple):
    """The mark of one exchange; `new` makes one that no other exchange has."""

    word: str
    left: int
    right: int

    @classmethod
    def new(cls) -> Mark:
        made = os.urandom(12)
        return cls(
            made[:8].hex(), int.from_bytes(made[8:10], "big"), int.from_bytes(made[10:], "big")
        )

    @property
    def hello(self) -> str:
        """The statement that prints the mark and the process id of the script's shell."""
        return f"echo {self._words}:$$"

    @property
    def farewell(self) -> str:
        """The statement that prints the mark again, with the exit status before it."""
        return f"echo {self._words}:end:$?"

    @property
    def unread(self) -> str:
        """The statement of a shell that could not read its script."""
        return f"echo {self._words}:unread"

    @property
    def printed(self) -> bytes:
        """The first bytes of the output of `hello`."""
        return b"ringtasks:%s:%d:" % (self.word.encode(), self.left + self.right)

    @property
    def _words(self) -> str:
        return f"ringtasks:{self.word}:$(({self.left}+{self.right}))"


class MarkedOutput:
    """The stdout of one exchange's program, as it arrives.

    :param has_end: the script prints the mark at its end, too.
    :param is_sent_later: the script's shell first has to read the script, on stdin.
    :param most_kept: the number of bytes before the mark that `preface` has at most.
    """

    def __init__(
        self,
        mark: Mark,
        *,
        has_end: bool = False,
        is_sent_later: bool = False,
        most_kept: int = _EVIDENCE_BYTES,
    ) -> None:
        self._begin, self._most_kept = mark.printed, most_kept
        self._unread = mark.printed + b"unread" if is_sent_later else b""
        self._end = mark.printed + b"end:" if has_end else None
        self._held = b""
        self._kept: list[bytes] = []
        self._kept_bytes = self._preface_bytes = 0
        self.pid: int | None = None
        """The process id of the script's shell; None before the mark has come."""
        self.status: int | None = None
        """The exit status in the mark at the end."""
        self.is_unread = False
        """True if the shell could not read the script."""

    @property
    def is_hopeless(self) -> bool:
        """True if so many bytes came before the mark that it is no longer waited for."""
        return self.pid is None and self._preface_bytes > MAX_PREFACE_BYTES

    @property
    def is_arriving(self) -> bool:
        """True if the beginning of the mark has come, and its end has not."""
        return self.pid is None and self._held.startswith(b"ringtasks:")

    @property
    def preface(self) -> bytes:
        """The first bytes that came before the mark, or instead of it."""
        held = self._held if self.pid is None else b""
        return (b"".join(self._kept) + held)[: self._most_kept]

    def take(self, chunk: bytes) -> bytes:
        """Return the script's output in ``chunk`` and in bytes that were held back."""
        if self.pid is None:
            chunk = self._look_for_begin(chunk)
        if self._unread and self.pid is not None:
            chunk = self._look_for_unread(chunk)
        if self._unread:  # the first bytes may be its mark, or are it
            return b""
        return chunk if self._end is None or self.pid is None else self._look_for_end(chunk)

    def rest(self) -> bytes:
        """Return the output that was held back because it looked like the beginning of a mark."""
        if self.pid is None:
            return b""  # it is the end of `preface`
        held, self._held = self._held, b""
        return held

    def _look_for_begin(self, chunk: bytes) -> bytes:
        received, self._held = self._held + chunk, b""
        before, number, after = _find(received, self._begin)
        if number is None:
            # The rest is held: the mark may have come without the end of its line.
            self._keep(before)
            self._held = received[len(before) :]
            return b""
        self._keep(before)
        self.pid = number
        return after

    def _look_for_unread(self, chunk: bytes) -> bytes:
        """Return the script's output; its first bytes are held back while they may be the mark."""
        received, self._held = self._held + chunk, b""
        if self.is_unread or received.startswith(self._unread):
            self.is_unread = True
            return b""
        if self._unread.startswith(received):
            self._held = received
            return b""
        self._unread = b""
        return received

    def _look_for_end(self, chunk: bytes) -> bytes:
        if self.status is not None:
            return b""
        assert self._end is not None  # noqa: S101  # for the type checker
        received, self._held = self._held + chunk, b""
        before, self.status, _ = _find(received, self._end)
        if self.status is None:
            self._held = received[len(before) :]
        return before

    def _keep(self, preface: bytes) -> None:
        self._preface_bytes += len(preface)
        if self._kept_bytes < self._most_kept:
            self._kept.append(preface[: self._most_kept])
            self._kept_bytes += len(preface)


def _find(received: bytes, mark: bytes) -> tuple[bytes, int | None, bytes]:
    """Return (the bytes before the mark, its number, the bytes after it).

    If there is no number, the first part certainly does not belong to the mark; the bytes of
    ``received`` after it may become the mark.
    """
    at = received.find(mark)
    while at >= 0:
        number, newline, after = received[at + len(mark) :].partition(b"\n")
        number = number.rstrip(b"\r")  # added by a terminal
        if newline and number.isdigit() and len(number) < _MAX_NUMBER_BYTES:
            return received[:at], int(number), after
        if not newline and len(number) < _MAX_NUMBER_BYTES and (not number or number.isdigit()):
            return received[:at], None, b""
        at = received.find(mark, at + 1)
    return received[: len(received) - _overlap(received, mark)], None, b""


def _overlap(received: bytes, mark: bytes) -> int:
    """Return the number of bytes at the end of ``received`` that may begin ``mark``."""
    at = received.find(mark[:1], max(0, len(received) - len(mark) + 1))
    while at >= 0:
        if mark.startswith(received[at:]):
            return len(received) - at
        at = received.find(mark[:1], at + 1)
    return 0
