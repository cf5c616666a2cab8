"""The interface of reports on a run on several hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ringtasks.common.light_typing import Protocol

if TYPE_CHECKING:
    from ringtasks.fleet import FleetResult, HostResult

__all__ = ["Report"]


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
