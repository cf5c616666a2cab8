"""Time stamps of lines: the date and time, or the time of day, of their printing.  Pure.

Only differences count, so a time without a zone is taken as UTC, and one without a year as of 2000.
"""

from __future__ import annotations

import calendar
import re

__all__ = ["Clock"]

_TIME = r"(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d)(?:[.,](?P<part>\d{1,9}))?"
# "2026-11-26 10:00:00,123", "2026/11/26T10:00:00Z", "11/26 10:00:00", glog's "I1126 10:00:00.123".
_DATED = re.compile(
    r"(?<![\d.])(?:(?P<year>\d{4})[-/.](?P<month>\d\d)[-/.](?P<day>\d\d)[T ,_]{1,2}"
    r"|(?P<month_of_year>\d\d)/(?P<day_of_month>\d\d)[ ,]{1,2}"
    rf"|[IWEF](?P<month_day>\d{{4}}) )(?:{_TIME})(?!\d)",
    re.ASCII,
)
_TIME_OF_DAY = re.compile(rf"[\s\[(<]{{0,4}}{_TIME}(?=[\s|,\])>-])", re.ASCII)
# Seconds or milliseconds since 1970, as JSON loggers write them.
_UNIX = re.compile(
    r"""["'](?:_?timestamp|ts|time|created|asctime|unix_?time|wall_?time)["']\s*:\s*"?"""
    r"(?P<seconds>[12]\d{9}(?:\.\d+)?(?!\d)|[12]\d{12}(?!\d))",
    re.ASCII | re.IGNORECASE,
)
_DAY = 86_400.0
_MAX_SEARCHED = 200


class Clock:
    """Reads the stamps of one log in order."""

    def __init__(self) -> None:
        self._days = 0.0
        self._last = 0.0

    def read(self, text: str) -> float | None:
        """Return the time of a line in seconds since a fixed one; None if it has no stamp."""
        if found := _UNIX.search(text):
            seconds = float(found["seconds"])
            return seconds / 1000 if seconds >= 1e12 else seconds
        if found := _DATED.search(text, 0, _MAX_SEARCHED):
            return _time_of(found)
        if found := _TIME_OF_DAY.match(text):
            return self._time_of_day(_seconds(found))
        return None

    def _time_of_day(self, seconds: float) -> float:
        if seconds < self._last - _DAY / 2:
            self._days += _DAY  # past midnight
        self._last = seconds
        return self._days + seconds


def _time_of(found: re.Match[str]) -> float | None:
    month, day = found["month"] or found["month_of_year"], found["day"] or found["day_of_month"]
    if found["month_day"]:
        month, day = found["month_day"][:2], found["month_day"][2:]
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    date = int(found["year"] or 2000), int(month), int(day)
    return calendar.timegm((*date, 0, 0, 0)) + _seconds(found)


def _seconds(found: re.Match[str]) -> float:
    clock = int(found["hour"]) * 3600 + int(found["minute"]) * 60 + int(found["second"])
    return clock + float(f"0.{found['part'] or 0}")
