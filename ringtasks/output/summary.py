"""The summary of a run: counts by state, then each unsuccessful host with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringtasks.common.program_name import as_typed
from ringtasks.common.text import counted, visible
from ringtasks.fleet.folding import groups_of
from ringtasks.fleet.results import FleetState

if TYPE_CHECKING:
    from ringtasks.fleet import FleetResult

__all__ = ["summary"]


def summary(result: FleetResult) -> list[str]:
    """Return the lines of the summary; one line if all hosts succeeded by the first route."""
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
