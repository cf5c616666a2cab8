"""Names for the hosts of one provider, where two may have the same name.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .model import Listing, PrintedHost

__all__ = ["numbered"]


def numbered(found: Iterable[tuple[str | None, PrintedHost]], noun: str) -> Listing:
    """Return the listing of hosts; if several have one name, each gets its id behind the name.

    Which of them the plain name means cannot be known, so it is none.

    :param found: each host behind its id.
    """
    hosts = sorted(found, key=lambda each: (each[1].name, each[0] or ""))
    counts = Counter(host.name for _, host in hosts)
    named = [
        host if counts[host.name] == 1 else host._replace(name=f"{host.name}-{number}")
        for number, host in hosts
    ]
    warnings = [
        f"{count} {noun}s are called {name!r}: each has its id behind the name"
        for name, count in sorted(counts.items())
        if count > 1
    ]
    return Listing(tuple(named), warnings=tuple(warnings))
