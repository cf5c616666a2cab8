"""Collect health outcomes and write them later: a run on many hosts writes the file once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ringtasks.common.light_typing import Protocol

from .model import HostOutcome, SSHHealth

__all__ = ["HealthBuffer", "HealthRecorder"]


class HealthRecorder(Protocol):
    """Store of health outcomes: the health file, or notes for it."""

    def get(self, name: str) -> SSHHealth:
        """Return a host's health; a fresh one for a host that was never tried."""

    def record(self, outcomes: Iterable[HostOutcome]) -> None:
        """Count outcomes."""

    def close_circuits(self, name: str) -> None:
        """Forget consecutive failures (`HealthStore.close_circuits`)."""

    def claim_probe(self, name: str, route: str | None, now: float) -> bool:
        """Return True if the caller may try the route (`HealthStore.claim_probe`)."""


class HealthBuffer:
    """`HealthRecorder` that keeps ``outcomes`` until its user writes them.

    :param known: the health file's content when the run began.
    :param file: the recorder for claims, which other processes must see at once.
    """

    def __init__(self, known: Mapping[str, SSHHealth], file: HealthRecorder) -> None:
        self.outcomes: list[HostOutcome] = []
        self._known, self._file = known, file

    def get(self, name: str) -> SSHHealth:
        health = self._known.get(name, SSHHealth())
        for outcome in self.outcomes:
            if outcome.host == name:
                health = health.after(outcome)
        return health

    def record(self, outcomes: Iterable[HostOutcome]) -> None:
        self.outcomes += outcomes

    def close_circuits(self, name: str) -> None:
        self._file.close_circuits(name)

    def claim_probe(self, name: str, route: str | None, now: float) -> bool:
        return self._file.claim_probe(name, route, now)
