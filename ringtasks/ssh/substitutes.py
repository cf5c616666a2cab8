"""Substitutes for the network, with which tests and demos open links."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ringtasks.inventory.host_settings import SSHConfig

from .link import Link

if TYPE_CHECKING:
    from ringtasks.health.model import HostOutcome

__all__ = ["Note", "OpenLink", "links_from", "substitute_for_links"]

#: Receives each opening: the routes that failed, and the one that works.
Note = Callable[["HostOutcome"], None]
#: Opens a link to a host; if a route is named, over that route only.
OpenLink = Callable[[SSHConfig, str | None, Note], Link]

#: The substitutes, innermost last.
_substitutes: list[OpenLink] = []


@contextlib.contextmanager
def links_from(open_link: OpenLink) -> Iterator[None]:
    """Let ``open_link`` open the links of all threads, instead of the network, in the block.

    Blocks may be nested.  A pool that was made in the block keeps ``open_link`` afterwards.
    """
    _substitutes.append(open_link)
    try:
        yield
    finally:
        _substitutes.remove(open_link)


def substitute_for_links() -> OpenLink | None:
    """Return the current substitute for the network (`links_from`); None: there is none."""
    return next(reversed(_substitutes), None)
