"""The name, revision and author of a release (pure)."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

__all__ = ["Release", "is_release", "new_id", "short"]

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[A-Za-z0-9_.]{1,40}-[0-9a-f]{4}\Z")
_SHORT = 12


class Release(NamedTuple):
    """Release to deploy.

    ``id`` is the name of its folder.  ``revision`` is the commit's full name, or the name of a
    source outside of git.  ``who`` is the user who deploys, ``host`` the user's machine; ``link``
    is the CI run's URL, or empty.
    """

    id: str
    revision: str
    who: str = ""
    host: str = ""
    link: str = ""


def new_id(revision: str, now: float, token: str) -> str:
    """Return a release's name: the time in UTC, the revision and a suffix; names sort by time.

    :param now: Unix seconds.
    :param token: its first four characters distinguish releases of the same second.
    """
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    what = re.sub(r"[^A-Za-z0-9_.]", "_", short(revision))[:40] or "release"
    return f"{when}-{what}-{token[:4]}"


def started(release: str) -> str:
    """Return the second in which a release's deploy began, in UTC; these texts sort by time."""
    return release.partition("-")[0]


def is_release(name: str) -> bool:
    """Return True if ``name`` has the form of a release's name; hosts are not trusted."""
    return _ID.match(name) is not None


def short(revision: str) -> str:
    """Return a commit's name, shortened for people; any other text unchanged."""
    return revision[:_SHORT] if re.fullmatch(r"[0-9a-f]{40,64}", revision) else revision
