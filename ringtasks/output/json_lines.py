"""One JSON object a host on stdout, in the order of the inventory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .display import json_line

if TYPE_CHECKING:
    from ringtasks.fleet import FleetResult, HostResult

__all__ = ["JsonReport"]


class JsonReport:
    """Each host as soon as all before it have been told."""

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
        """Everything was told, unless the run was left at once: then what there is."""
        for found in list(self._early.values()):
            json_line({"host_id": found.host, **found.result.to_dict()})
