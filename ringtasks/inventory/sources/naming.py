"""Names for the hosts of one provider, whose labels are free text and need not be unique.  Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ringtasks.common.text import bounded

from .model import Listing, PrintedHost
from .values import ListedItems, text

__all__ = ["NAME", "named", "plain_name"]

#: A name that is one word to ssh, to a shell and in a file.
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}"
_LONGEST_LABEL = 200  # characters: room for an id behind it


def plain_name(label: str) -> str:
    """Return a label as a name: accents are dropped, other characters become ``-``.

    It is empty if the label has no letter of ASCII and no digit.
    """
    if re.fullmatch(NAME, label):
        return label
    decomposed = unicodedata.normalize("NFKD", label[: 2 * _LONGEST_LABEL])
    base = "".join(char for char in decomposed if not unicodedata.combining(char))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-._")[:_LONGEST_LABEL]


def named(
    items: ListedItems,
    host_of: Callable[[Mapping[str, Any]], PrintedHost],
    provider: str,
    noun: str,
) -> Listing:
    """Return the listing of a provider's hosts, each by a plain name.

    A host without a usable label has its id as its name.  If several have one name, each gets its
    id behind the name: which of them the plain name means cannot be known, so it is none.

    :param host_of: returns the host of an item, whose name is the label.
    """
    told = list(items.warnings)
    hosts = []
    for item in items.found:
        number, host = text(item.get("id")), host_of(item)
        name = plain_name(host.name)
        if not name:
            name = f"{provider}-{number}"
            if host.name:
                label = bounded(repr(host.name), 80)
                told.append(f"the label {label} has no letter or digit: the {noun} is {name}")
        hosts.append((number, host._replace(name=name)))
    hosts.sort(key=lambda each: (each[1].name, each[0] or ""))
    # OpenSSH compares names without regard to case.
    counts = Counter(host.name.lower() for _, host in hosts)
    numbered = [
        host if counts[host.name.lower()] == 1 else host._replace(name=f"{host.name}-{number}")
        for number, host in hosts
    ]
    told += [
        f"{count} {noun}s are called {name!r}: each has its id behind the name"
        for name, count in sorted(counts.items())
        if count > 1
    ]
    return Listing(tuple(numbered), warnings=tuple(told))
