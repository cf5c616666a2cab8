"""Print one JSON object per host on stdout, in the order of the inventory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .display import json_line

if TYPE_CHECKING:
    from ringtasks.fleet import FleetResult, HostResult

__all__ = ["JsonReport"]


class JsonReport:
    """Report that prints each host as soon as all hosts before it are printed."""

    on_output = None

    def __init__(self, hosts: Sequence[str]) -> None:
        self._left = list(reversed(hosts))
        self._early: dict[str, HostResult] = {}

    def arrived(self, found: HostResult) -> None:
        self._early[found.host] = found
        while self._left and self._left[-1] in self._early:
            told = self._early.pop(self._left.pop())
            json_line({"host_id": told.host, **told.result.to_dict()})

    def finish(self, result: FleetResult) -> None:
        """Print the results still held back, if the run was abandoned."""
        for found in list(self._early.values()):
            json_line({"host_id": found.host, **found.result.to_dict()})
