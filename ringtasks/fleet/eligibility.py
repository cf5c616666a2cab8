"""Which of the hosts meant are worth a try, by what the health file knows.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ringtasks.health.model import SSHHealth

__all__ = ["Choice", "choose"]


class Choice(NamedTuple):
    """The hosts to run on, in the order given, and why others of them are left out."""

    chosen: tuple[str, ...]
    skipped: Mapping[str, str]


def choose(
    names: Sequence[str],
    known: Mapping[str, SSHHealth],
    now: float,
    *,
    skip_unhealthy: bool = False,
    pick: int | None = None,
) -> Choice:
    """All of ``names``, unless told otherwise.

    :param skip_unhealthy: without those whose circuit is open.
    :param pick: the best so many of the rest. Who is not among them was not asked for: it is no
        skipped host.
    """
    skipped = {}
    if skip_unhealthy:
        for name in names:
            health = known.get(name, SSHHealth())
            if health.circuit_state_at(now) == "open":
                skipped[name] = health.last_reason or "its circuit is open"
    left = [name for name in names if name not in skipped]
    if pick is None:
        return Choice(tuple(left), skipped)
    best = set(sorted(left, key=lambda name: _rank(known.get(name, SSHHealth()), now))[:pick])
    return Choice(tuple(name for name in left if name in best), skipped)


def _rank(health: SSHHealth, now: float) -> tuple[bool, int, float, float]:
    """Less is better; equals keep their order (`sorted` is stable).

    What was never tried stands between what has worked and what has been failing.
    """
    return (
        health.circuit_state_at(now) == "open",
        health.consecutive_failures,
        -health.success_rate,
        -(health.last_success or 0.0),
    )
