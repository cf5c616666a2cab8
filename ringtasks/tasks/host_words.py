"""A word on the command line that selects hosts, though no flag stands in front of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ringtasks.errors import RingtasksError

__all__ = ["in_front_of_path", "selector_of"]

#: ``HOST:PATH``, as scp takes it.
_SCP_PATH = re.compile(r"([^/:\s]+):([^:].*|)", re.DOTALL)


def selector_of(word: str, words: Sequence[str]) -> str | None:
    """Return the selector that a word means; None: it selects no hosts of the inventory.

    No source of the inventory is asked.

    :param words: the command line, which may name the inventory.
    """
    from ringtasks.inventory.loader import load_inventory
    from ringtasks.inventory.selection import select
    from ringtasks.output.candidates import inventory_of, project_folder

    if word == "all":
        return "@all"
    if "@" in word[1:]:
        return word  # user@host
    try:
        inventory = load_inventory(inventory_of(words), beside=project_folder(), may_fetch=False)
        select(word, inventory)
    except RingtasksError:
        return None
    return word


def in_front_of_path(word: str) -> tuple[str, str] | None:
    """Return the host and the path of ``HOST:PATH``; None: it is not in that form, or a file."""
    found = _SCP_PATH.fullmatch(word)
    return None if found is None or Path(word).exists() else (found[1], found[2] or ".")
