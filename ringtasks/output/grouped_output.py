"""Show equal outputs once under their hosts' folded names, or differences from the majority."""

from __future__ import annotations

import re

from ringtasks.client.result import SSHResult
from ringtasks.fleet import FleetResult, HostResult
from ringtasks.fleet.folding import Group, difference, folded, groups_of

from .foreign_text import shown_lines
from .screen import Screen

__all__ = ["DiffReport", "FoldReport"]

_RULE = "-" * 15  # as clush(1) prints it
#: A line that looks like a rule; "--- " also begins a section of Buildkite's log.
_IS_RULE = re.compile(r"[^!-~]*(?:--[^!-~]*-|\+\+\+ |~~~ )")


class _EndReport:
    """Report that shows nothing before the end."""

    on_output = None

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def arrived(self, found: HostResult) -> None:
        """Do nothing."""


class FoldReport(_EndReport):
    """Report that shows each different output once at the end, the most frequent first."""

    def finish(self, result: FleetResult) -> None:
        answered = _answered(result)
        for group in _groups(answered):
            show_group(self._screen, group, answered[group.first])


class DiffReport(_EndReport):
    """Report that shows the most frequent output at the end, and how others differ from it."""

    def finish(self, result: FleetResult) -> None:
        answered = _answered(result)
        if not answered:
            return
        majority, *others = _groups(answered)
        show_group(self._screen, majority, answered[majority.first])
        for group in others:
            ours, theirs = answered[majority.first].result, answered[group.first].result
            text = difference(_all_of(ours), _all_of(theirs), str(majority), str(group))
            self._screen.write(1, _printable(text))


def show_group(screen: Screen, group: Group, found: HostResult) -> None:
    """Show an output under a heading with its hosts; the heading goes to stdout."""
    result = found.result
    heading = folded(group.hosts)
    if found.reason:
        heading += f": {found.reason}"
    screen.write(1, _printable(f"{_RULE}\n{heading}\n{_RULE}"))
    for stream, text in ((1, result.stdout), (2, result.stderr)):
        if text:
            screen.write(stream, _output(text.removesuffix("\n")))


def _answered(result: FleetResult) -> list[HostResult]:
    """Return the hosts whose command has run; the summary lists the others."""
    return [found for found in result if found.result.transport_used is not None]


def _groups(answered: list[HostResult]) -> list[Group]:
    return groups_of(
        answered,
        lambda found: found.host,
        lambda found: (found.result.stdout, found.result.stderr, found.reason),
    )


def _all_of(result: SSHResult) -> str:
    return result.stdout + result.stderr + (f"[{result.error}]\n" if result.error else "")


def _output(text: str) -> bytes:
    """Return an output that cannot pass for a heading: its own rules are marked."""
    lines = text.split("\n")
    return _printable("\n".join(f"| {line}" if _IS_RULE.match(line) else line for line in lines))


def _printable(text: str) -> bytes:
    return shown_lines(text).encode() + b"\n"
