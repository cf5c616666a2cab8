"""A release's name, and who makes it of what (pure)."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

__all__ = ["Release", "is_release", "new_id", "short"]

_ID = re.compile(r"\d{8}T\d{6}Z-[A-Za-z0-9_.]{1,40}-[0-9a-f]{4}\Z")
_SHORT = 12


class Release(NamedTuple):
    """What is to be on the hosts.

    ``id`` is the name of its folder; ``revision`` the commit's full name, or the name of a source
    that is none.  ``who`` deploys, from the machine ``host``; ``link`` is the CI run's, or empty.
    """

    id: str
    revision: str
    who: str = ""
    host: str = ""
    link: str = ""


def new_id(revision: str, now: float, token: str) -> str:
    """A release's name: when, in UTC, and of what; in the order of time when sorted.

    :param now: Unix seconds.
    :param token: tells two of the same second apart.
    """
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    what = re.sub(r"[^A-Za-z0-9_.]", "_", short(revision))[:40] or "release"
    return f"{when}-{what}-{token[:4]}"


def is_release(name: str) -> bool:
    """Whether it can be the name of a release: what a host says is not trusted."""
    return _ID.match(name) is not None


def short(revision: str) -> str:
    """A commit's name as people write it; anything else as it is."""
    return revision[:_SHORT] if re.fullmatch(r"[0-9a-f]{40,64}", revision) else revision
