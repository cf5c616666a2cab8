"""Lines of several hosts or programs, each with its label in front, as they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ringtasks.common.lines import Lines

from .display import write_bytes
from .foreign_text import shown, shown_lines
from .screen import Screen

if TYPE_CHECKING:
    from ringtasks.fleet import FleetResult, HostResult

__all__ = ["LabelledLog", "LineReport", "RawLog"]

#: A longer line is shown in pieces, so that output without newlines uses bounded memory.
_MAX_LINE_BYTES = 64 * 1024
#: The foreground colours that are legible on black and on white (ECMA-48, SGR).
_COLOURS = (36, 32, 35, 33, 34, 96, 92, 95)


class LineReport:
    """Report of whole lines, each with its host's name; a line never mixes two hosts."""

    def __init__(self, screen: Screen, hosts: Sequence[str]) -> None:
        self._screen = screen
        self._labels = {host: _label(host, i, screen.has_colour) for i, host in enumerate(hosts)}
        self._lines: dict[tuple[str, int], Lines] = {}

    def on_output(self, host: str, stream: int, chunk: bytes) -> None:
        """Show the whole lines of the output; each host's output arrives in one thread."""
        lines = self._lines.setdefault((host, stream), Lines(_MAX_LINE_BYTES))
        if whole := lines.add(chunk):
            self._show(host, stream, whole)

    def arrived(self, found: HostResult) -> None:
        for stream in (1, 2):
            lines = self._lines.pop((found.host, stream), None)
            if lines is not None and (rest := lines.end()):
                self._show(found.host, stream, rest)

    def finish(self, result: FleetResult) -> None:
        """Show nothing: all lines were shown as they arrived."""

    def _show(self, host: str, stream: int, lines: Sequence[bytes]) -> None:
        label = self._labels[host]
        # All at once: a flood of short lines costs little more than its bytes.
        text = shown_lines(b"\n".join(lines).decode("utf-8", "replace"))
        labelled = "".join(f"{label}{line}\n" for line in text.split("\n"))
        self._screen.write(stream, labelled.encode())


def _label(host: str, index: int, has_colour: bool) -> str:
    name = shown(host)
    if not has_colour:
        return f"{name}: "
    return f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{name}:\x1b[0m "


class RawLog:
    """The log of one program, passed through to stdout unchanged."""

    def add(self, chunk: bytes) -> None:
        """Print output of the program."""
        write_bytes(1, chunk)

    def finish(self) -> None:
        """Do nothing: no text is held back."""


class LabelledLog:
    """The log of one program of several: whole lines with a label, progress bars folded."""

    def __init__(self, label: str) -> None:
        self._label, self._lines = label, Lines()

    def add(self, chunk: bytes) -> None:
        """Print the lines that are complete now."""
        self._print(self._lines.add(chunk))

    def finish(self) -> None:
        """Print the rest: a line without a line end."""
        self._print(self._lines.end())

    def _print(self, lines: Iterable[bytes]) -> None:
        text = "".join(
            shown(f"{self._label}: {line.decode('utf-8', 'replace')}") + "\n" for line in lines
        )
        write_bytes(1, text.encode())  # by one write: others print, too
