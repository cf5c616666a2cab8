"""Conditions of a selector: ``free_gpus>=2``, ``disk_gb>50``, ``idle>30m``, ``price_per_hour<2``.

Those about the present state of a host are live: the caller measures it.  The others compare a fact
that is a number.  Pure.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ringtasks.common.durations import duration
from ringtasks.common.text import near_names
from ringtasks.errors import UsageError

__all__ = ["LIVE", "Condition", "condition_of", "unknown_value"]

#: The values of a host that are measured, each with its meaning.
LIVE = {
    "free_gpus": "GPUs that nothing uses",
    "gpus": "GPUs",
    "disk_gb": "free space for the remote home, in GB",
    "memory_gb": "available memory, in GB",
    "load": "the load of the last minute",
    "jobs": "jobs that have not ended",
    "idle": "the time without a job, a process on a GPU or a busy CPU",
}
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class Condition(NamedTuple):
    """A comparison of one value of a host with a number."""

    key: str
    comparison: str
    limit: float
    """``idle``: seconds."""

    @property
    def is_live(self) -> bool:
        """True if the host itself must be asked."""
        return self.key in LIVE

    def holds(self, value: object) -> bool:
        """Return whether a value meets it; text that is a number counts as one."""
        try:
            found = float(value)  # type: ignore[arg-type]  # whatever a hosts file has there
        except (TypeError, ValueError):
            return False
        return not isinstance(value, bool) and _COMPARISONS[self.comparison](found, self.limit)


def condition_of(term: str) -> Condition | None:
    """Return the condition that a selector's term is; None: it is none.

    :raises UsageError: the number is malformed.
    """
    found = re.fullmatch(r"([A-Za-z_][\w.-]*)\s*(>=|<=|>|<)\s*(.*)", term)
    if found is None:
        return None
    key, comparison, text = found.groups()
    if key == "idle":
        return Condition(key, comparison, duration(f"selector {term!r}", text))
    try:
        return Condition(key, comparison, float(text))
    except ValueError:
        raise UsageError(f"selector {term!r}: expected a number, found {text!r}") from None


def unknown_value(key: str, term: str, facts: Sequence[Mapping[str, Any]]) -> UsageError:
    """Return the error of a name that no host has: with ``!`` it would leave out no host."""
    near = near_names(key, [*LIVE, *dict.fromkeys(name for each in facts for name in each)])
    advice = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"selector {term!r}: no host has a value {key!r}{advice}")
