"""Conditions of a selector: ``free_gpus>=2``, ``disk_gb>50``, ``idle>30m``, ``price_per_hour<2``.

Those about the present state of a host are live: the caller measures it, also for ``free_gpus=2``.
The others compare a fact that is a number; ``=`` with a fact compares texts (`selection`).  Pure.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ringtasks.common.durations import duration
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.text import near_names
from ringtasks.errors import UsageError

__all__ = ["LIVE", "Condition", "condition_of", "refuse_other_comparison", "unknown_value"]

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
    "=": operator.eq,
}
#: Comparisons of other languages, each with its spelling here.
_FOREIGN = {
    "=>": "KEY>=VALUE", "=<": "KEY<=VALUE",
    "==": "KEY=VALUE", "===": "KEY=VALUE", ":=": "KEY=VALUE",
    "!=": "!KEY=VALUE", "=!": "!KEY=VALUE", "<>": "!KEY=VALUE", "!==": "!KEY=VALUE",
    "~=": "KEY=VALUE, which takes * and ?", "=~": "KEY=VALUE, which takes * and ?",
}  # fmt: skip
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"


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
        except (TypeError, ValueError, OverflowError):
            return False
        is_number = math.isfinite(found) and not isinstance(value, bool)
        return is_number and _COMPARISONS[self.comparison](found, self.limit)


def condition_of(term: str) -> Condition | None:
    """Return the condition that a selector's term is; None: it is none.

    :raises UsageError: the number is malformed.
    """
    found = re.fullmatch(r"([A-Za-z_][\w.-]*)\s*(>=|<=|>|<|=)\s*(.*)", term)
    if found is None or (found[2] == "=" and found[1] not in LIVE):
        return None
    key, comparison, text = found.groups()
    if key == "idle":
        return Condition(key, comparison, duration(f"selector {term!r}", text))
    limit = float(text) if re.fullmatch(_NUMBER, text, re.ASCII) else math.inf
    if not math.isfinite(limit):
        raise UsageError(f"selector {term!r}: expected a number, found {text!r}")
    return Condition(key, comparison, limit)


def refuse_other_comparison(term: str) -> None:
    """Refuse a comparison that selectors do not have.

    :raises UsageError: its message gives the right spelling.
    """
    if re.match("[<>]", term):
        raise UsageError(f"selector {term!r}: expected a name in front, as in free_gpus>=2")
    found = re.match(r"([A-Za-z_][\w.-]*)\s*(:=|[<>=!~]+)\s*(.*)", term)
    if found is None or found[2] in _COMPARISONS:
        return
    key, comparison, text = found.groups()
    if comparison == "=~" and text[:1] in ("/", ""):  # a path of the remote home
        return
    spelling = _FOREIGN.get(comparison, "one of = >= <= > <")
    meant = spelling.replace("KEY", key).replace("VALUE", text or "VALUE")
    raise UsageError(f"selector {term!r}: {comparison!r} is not a comparison: write {meant}")


def unknown_value(key: str, term: str, facts: Sequence[Mapping[str, Any]]) -> UsageError:
    """Return the error of a name that no host has: with ``!`` it would leave out no host."""
    near = near_names(key, [*LIVE, *dict.fromkeys(name for each in facts for name in each)])
    advice = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"selector {term!r}: no host has a value {key!r}{advice}")
