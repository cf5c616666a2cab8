"""Reports on a run on several hosts: their interface, that for JSON, and the summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ringtasks.common.light_typing import Protocol
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import counted, visible
from ringtasks.fleet import FleetResult, HostResult
from ringtasks.fleet.folding import groups_of
from ringtasks.fleet.results import FleetState

from .display import json_line

__all__ = ["JsonReport", "Report", "summary"]


class Report(Protocol):
    """Display of a run on several hosts."""

    @property
    def on_output(self) -> Callable[[str, int, bytes], None] | None:
        """Callback for a host, 1 or 2, and the bytes as they arrive, in many threads.

        None: the results hold the output.
        """

    def arrived(self, found: HostResult) -> None:
        """Show the result of one host, as it arrives."""

    def finish(self, result: FleetResult) -> None:
        """Show the part of the report that needs the whole result."""


class JsonReport:
    """Report of a JSON object per host, printed as soon as all hosts before it are printed."""

    on_output = None

    def __init__(self, hosts: Sequence[str]) -> None:
        self._left = list(reversed(hosts))
        self._early: dict[str, HostResult] = {}

    def arrived(self, found: HostResult) -> None:
        self._early[found.host] = found
        while self._left and self._left[-1] in self._early:
            _print(self._early.pop(self._left.pop()))

    def finish(self, result: FleetResult) -> None:
        """Print the results still held back, if the run was abandoned."""
        for found in list(self._early.values()):
            _print(found)


def _print(found: HostResult) -> None:
    json_line({"host_id": found.host, **found.result.to_dict()})


def summary(result: FleetResult) -> list[str]:
    """Return the counts by state, then each unsuccessful host with the reason.

    It is one line if all hosts succeeded by the first route.
    """
    counts = [(state, len(result.of(state))) for state in FleetState]
    told = ", ".join(f"{count} {state}" for state, count in counts if count)
    lines = [f"{counted(len(result), 'host')} in {result.elapsed_ms / 1000:.1f} s: {told}"]
    for state in FleetState:
        if state is not FleetState.SUCCEEDED:
            own = result.of(state)
            for group in groups_of(own, lambda found: found.host, lambda found: found.reason):
                lines.append(_line(f"{state}: {group}", own[group.first].reason))
    with_note = [found for found in result if found.fallback_note]
    for group in groups_of(with_note, lambda found: found.host, lambda found: found.fallback_note):
        lines.append(_line(str(group), with_note[group.first].fallback_note))
    if result.of(FleetState.UNREACHABLE):
        lines.append(f"  for details of an unreachable host: {as_typed('check --host HOST')}")
    return lines


def _line(what: str, why: str) -> str:
    return visible("  " + f"{what}: {' '.join(why.split())}")
