"""What people and programs see of a run on several hosts, and of its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ringtasks.fleet import FleetResult, HostResult

__all__ = ["Report"]


class Report(Protocol):
    """Shows a run on several hosts."""

    @property
    def on_output(self) -> Callable[[str, int, bytes], None] | None:
        """Takes a host, 1 or 2, and the bytes as they come, in many threads; None: the results
        are to hold the output."""

    def arrived(self, found: HostResult) -> None:
        """Show one host's end, as it comes."""

    def finish(self, result: FleetResult) -> None:
        """Show what waits for the end of the run."""
