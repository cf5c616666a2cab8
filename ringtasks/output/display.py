"""The output of single commands: remote text, messages, tables, JSON lines.

Remote text is not trusted: only the output of a single host passes through unchanged; beside
messages of ringtasks, its control characters are made visible.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ringtasks.common import interruption, rehearsal
from ringtasks.common.light_typing import Protocol
from ringtasks.common.text import visible
from ringtasks.exit_status import INTERRUPTED

from .foreign_text import json_text, message, shown, shown_lines

if TYPE_CHECKING:
    from ringtasks.client.result import SSHResult
    from ringtasks.common.pending_answers import PendingAnswer

__all__ = [
    "JsonReporter",
    "RawReporter",
    "Reporter",
    "alarm",
    "json_line",
    "json_lines",
    "messages_by",
    "out",
    "repeated",
    "say",
    "shown",
    "shown_lines",
    "silence_notice",
    "without_alarms",
    "write_bytes",
]


class Reporter(Protocol):
    """Display of one command on one host."""

    @property
    def on_output(self) -> Callable[[int, bytes], None] | None:
        """Callback for 1 or 2 and the bytes as they arrive; None: the result holds the output."""

    def finish(self, result: SSHResult) -> None:
        """Show the result of the command."""


def say(text: str) -> None:
    """Print a message of ringtasks on stderr."""
    _print(f"ringtasks: {message(without_alarms(text))}", on_stderr=True)


def without_alarms(text: str) -> str:
    """Return a message in which an alarm that was printed before is only referred to."""
    alarms = sys.modules.get("ringtasks.common.alarms")
    for alarm in alarms.texts() if alarms else ():
        route = alarm.partition(": ")[0]
        text = text.replace(alarm, f"{route}: host key refused: see the warning above")
    return text


def out(text: str) -> None:
    """Print a line on stdout that may hold foreign text."""
    _print(shown(text))


_write: Callable[[int, bytes], None] | None = None


@contextlib.contextmanager
def messages_by(write: Callable[[int, bytes], None]) -> Iterator[None]:
    """Print messages by ``write`` within the block: it hides a progress line meanwhile."""
    global _write  # a process has one stderr
    _write = write
    try:
        yield
    finally:
        _write = None


def _print(line: str, *, on_stderr: bool = False) -> None:
    """Print a line by one call: print() makes two for it, between which a thread may print."""
    if on_stderr and _write is not None:
        _write(2, f"{line}\n".encode("utf-8", "backslashreplace"))
        return
    print(f"{line}\n", end="", file=sys.stderr if on_stderr else sys.stdout, flush=True)


def alarm(host: str, text: str) -> None:
    """Print a security warning on stderr and, in GitHub Actions, as an annotation."""
    _print(f"ringtasks: {message(f'WARNING: {host}: {text}')}", on_stderr=True)
    from . import github

    if github.is_active(os.environ):
        title = f"{host}: possible man in the middle"
        _print(github.command("error", visible(text), title=title), on_stderr=True)


def json_line(fields: dict[str, Any], *, allow_nan: bool = False) -> None:
    """Print a JSON object on a line of stdout.

    It has ``warnings`` if its host has alarms, and ``rehearsal`` if one is in force.

    :param allow_nan: see `json_text`.
    """
    alarms = sys.modules.get("ringtasks.common.alarms")
    warnings = alarms and alarms.of(str(fields.get("host_id") or fields.get("host")))
    if warnings:
        fields = {**fields, "warnings": list(warnings)}
    if (rehearsed := rehearsal.current()) is not None:
        fields = {**fields, "rehearsal": rehearsed.words}
    _print(json_text(fields, allow_nan=allow_nan))


def json_lines(rows: Iterable[dict[str, Any]]) -> None:
    """Print a `json_line` for each."""
    for fields in rows:
        json_line(fields)


class RawReporter:
    """`Reporter` of a single host: its output passes through unchanged, as it arrives.

    :param hidden: the streams that are not shown.
    """

    def __init__(self, hidden: Sequence[int] = ()) -> None:
        self._hidden = hidden

    def on_output(self, stream: int, chunk: bytes) -> None:
        if stream not in self._hidden:
            write_bytes(stream, chunk)

    def finish(self, result: SSHResult) -> None:
        if result.error:
            say(result.error)


class JsonReporter:
    """`Reporter` in JSON: one object per host, with ``host_id`` and the fields of SSHResult."""

    on_output = None

    def finish(self, result: SSHResult) -> None:
        json_line({"host_id": result.host, **result.to_dict()})


def repeated(show: Callable[[], int], interval: float) -> int:
    """Call ``show`` every ``interval`` seconds until Ctrl-C; return its last answer.

    On a terminal, the screen is cleared before each call.
    """
    status = 0
    try:
        with interruption.said_as(None):
            while True:
                if sys.stdout.isatty():
                    print("\x1b[H\x1b[2J", end="", flush=True)  # ECMA-48: CUP, ED
                status = show()
                time.sleep(interval)
    except KeyboardInterrupt:
        if interruption.status() not in (None, INTERRUPTED):
            raise
        return status


def silence_notice(seconds: float, silent: Sequence[PendingAnswer]) -> str:
    """Return the line for hosts that a task waits for, and that are silent for ``seconds`` now."""
    from ringtasks.fleet.folding import folded

    hosts = list(dict.fromkeys(answer.host for answer in silent))
    if len(hosts) > 1:
        return f"no answer for {seconds:g} s from {folded(hosts)}"
    places = ", ".join(dict.fromkeys(answer.place() for answer in silent))
    limits = [answer.until for answer in silent if answer.until is not None]
    left = max(limits, default=0.0) - time.monotonic()
    waits = f"; waiting {left:.0f} s more" if left >= 1 else ""
    return f"{hosts[0]}: no answer for {seconds:g} s over {places}{waits}"


def write_bytes(stream: int, chunk: bytes) -> None:
    """Write ``chunk`` to 1 (stdout) or 2 (stderr), after the earlier output of print()."""
    out = sys.stdout if stream == 1 else sys.stderr
    buffer = getattr(out, "buffer", None)
    if buffer is None:  # a Python caller replaced it by a text stream
        out.write(chunk.decode("utf-8", "replace"))
        return
    out.flush()
    buffer.write(chunk)
    buffer.flush()
