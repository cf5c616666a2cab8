"""Rank the hosts for a run, with the reason for each host that is left out.  Pure.

Of the hosts that may train, are ready, answer, and pass every check, the best comes first: the one
whose last failed attempt is the longest ago, in three steps, then the one with the least load, then
the most free GPUs, then the inventory's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ringtasks.common.durations import ago
from ringtasks.common.text import size
from ringtasks.health.model import SSHHealth

from .preflight import Check
from .probe import HostProbe

__all__ = ["Candidate", "HostVerdict", "choose", "willing"]

#: Loads within one of these steps count as equal: exact values hardly ever are.
_LOAD_STEP = 0.25
#: Seconds in which a failed attempt counts, more and less.
_HOUR, _DAY = 3600.0, 86400.0
#: The status of a host that can take a run: in a hosts file, and as inventory sources call it.
_READY = ("ready", "running", "active", "online")


@dataclass(frozen=True)
class Candidate:
    """A host and its probe. ``health``: as it was before the probe, at the time ``asked_at``."""

    name: str
    probe: HostProbe
    checks: tuple[Check, ...] = ()
    health: SSHHealth = field(default_factory=SSHHealth)
    asked_at: float = 0.0

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.is_passed)


class HostVerdict(NamedTuple):
    """One host: whether it is eligible for the run, and the reason."""

    host: str
    is_fit: bool
    reason: str


def willing(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why each host is not meant for training; ``""`` if it is.

    If no host says ``training_enabled: true``, the inventory does not use that field, and only
    hosts that say ``false`` are refused.
    """
    is_used = any(own.get("training_enabled") is True for own in facts.values())
    reasons = {}
    for name, own in facts.items():
        enabled, status = own.get("training_enabled"), own.get("status", "ready")
        if enabled is False or (is_used and enabled is not True):
            reasons[name] = "training_enabled is not true in the hosts file"
        elif str(status).lower() not in _READY:
            reasons[name] = f"its status in the hosts file is {status!r}"
        else:
            reasons[name] = ""
    return reasons


def choose(
    candidates: Sequence[Candidate], refused: Mapping[str, str] | None = None
) -> list[HostVerdict]:
    """Return the hosts' verdicts, the eligible ones first, best first.

    :param refused: hosts that were not asked, each with the reason.
    """
    fit = sorted((each for each in candidates if not each.failed), key=_rank)
    verdicts = [HostVerdict(each.name, True, _praise(each)) for each in fit]
    verdicts += [
        HostVerdict(each.name, False, "failed " + ", ".join(check.name for check in each.failed))
        for each in candidates
        if each.failed
    ]
    verdicts += [HostVerdict(name, False, why) for name, why in (refused or {}).items() if why]
    return verdicts


def _rank(candidate: Candidate) -> tuple[int, int, int]:
    load = candidate.probe.load_per_cpu
    return (
        _unreliability(candidate),
        round((1.0 if load is None else load) / _LOAD_STEP),
        -candidate.probe.free_gpus,
    )


def _unreliability(candidate: Candidate) -> int:
    """Return 2 if the last attempt or one of the last hour failed, 1 for one of the last day.

    Counts over all attempts hide that a host has begun to fail, and keep an outage of last year.
    """
    health = candidate.health
    if health.last_failure is None:
        return 0
    passed = candidate.asked_at - health.last_failure
    return 2 if health.consecutive_failures or passed < _HOUR else int(passed < _DAY)


def _failures(candidate: Candidate) -> str:
    if not _unreliability(candidate):
        return "no failed attempt in a day"
    last = ago(candidate.health.last_failure, candidate.asked_at)
    return f"last failed attempt {last}"


def _praise(candidate: Candidate) -> str:
    probe = candidate.probe
    parts: Iterable[str | None] = (
        _failures(candidate),
        f"load {probe.load:.1f} of {probe.cpus or 1}" if probe.load is not None else None,
        f"{probe.free_gpus} of {len(probe.gpus)} GPUs free" if probe.gpus else None,
        f"{size(probe.disk_available)} free" if probe.disk_available is not None else None,
    )
    return ", ".join(part for part in parts if part)
