"""Leave out hosts, or prefer some, by their health.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringtasks.common.light_typing import NamedTuple
from ringtasks.health.model import SSHHealth

__all__ = ["EligibleHosts", "eligible_hosts"]


class EligibleHosts(NamedTuple):
    """The hosts to run on, in the order given, and the skipped ones with the reason for each."""

    chosen: tuple[str, ...]
    skipped: Mapping[str, str]


def eligible_hosts(
    names: Sequence[str],
    known: Mapping[str, SSHHealth],
    now: float,
    *,
    skip_unhealthy: bool = False,
    pick: int | None = None,
) -> EligibleHosts:
    """Return all of ``names``, unless an option narrows them down.

    :param skip_unhealthy: skip hosts whose circuit is open.
    :param pick: keep this many of the rest, the healthiest ones; the others do not count as
        skipped.
    """
    skipped = {}
    if skip_unhealthy:
        for name in names:
            health = known.get(name, SSHHealth())
            if health.circuit_state_at(now) == "open":
                skipped[name] = health.last_reason or "its circuit is open"
    left = [name for name in names if name not in skipped]
    if pick is None:
        return EligibleHosts(tuple(left), skipped)
    best = set(sorted(left, key=lambda name: _rank(known.get(name, SSHHealth()), now))[:pick])
    return EligibleHosts(tuple(name for name in left if name in best), skipped)


def _rank(health: SSHHealth, now: float) -> tuple[bool, int, float, float]:
    """Sort key: the healthiest host first; a host never tried ranks after those that worked.

    Equal hosts keep their order, since `sorted` is stable.
    """
    return (
        health.circuit_state_at(now) == "open",
        health.consecutive_failures,
        -health.success_rate,
        -(health.last_success or 0.0),
    )
