"""Durations and moments as people write and read them.  Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from ringtasks.errors import UsageError

__all__ = ["ago", "duration", "lasting", "moment"]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def duration(flag: str, text: str) -> float:
    """Return the seconds in ``90``, ``90s``, ``500ms``, ``10m``, ``2h``, ``7d`` or ``1w``.

    :raises UsageError: ``text`` is not a duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip())
    if not found or (found[2] or "s") not in _UNITS:
        raise UsageError(f"{flag}: expected a duration such as 90s, 10m, 2h or 7d, got {text!r}")
    return float(found[1]) * _UNITS[found[2] or "s"]


def moment(flag: str, text: str, now: float) -> float:
    """Return Unix seconds, from a duration before ``now``, a date, or a time of the last 24 hours.

    :raises UsageError: ``text`` is none of these.
    """
    if re.fullmatch(r"[\d.]+\s*[a-z]+", text.strip()):
        return now - duration(flag, text)
    today = datetime.fromtimestamp(now)
    try:
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text.strip()):
            clock = [int(part) for part in text.split(":")]
            at = today.replace(hour=clock[0], minute=clock[1], second=[*clock, 0][2], microsecond=0)
            return (at if at <= today else at - timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise UsageError(f"{flag}: expected 10m, 14:02 or 2026-11-23T14:02, got {text!r}") from None


def lasting(seconds: float | None) -> str:
    """Return ``3 s``, ``4 min``, ``2 h 5 min`` or ``3 d 4 h``; "" if it is not known."""
    if seconds is None:
        return ""
    minutes, hours, days = (int(seconds // size) for size in (60, 3600, 86400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def ago(then: float | None, now: float | None) -> str:
    """Return ``4 min ago``; "" if it is not known. If ``then`` is after ``now``: ``0 s ago``."""
    if then is None or now is None:
        return ""
    return f"{lasting(max(0.0, now - then))} ago"
