"""Hosts without an inventory entry: ``[user@]host[:port]`` and the aliases of ssh's files."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from ringtasks.errors import UnknownHostError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.loader import usual_inventory
from ringtasks.inventory.plain_addresses import is_ip_address, meant_by
from ringtasks.inventory.ssh_aliases import directives

from .evaluated_config import ask
from .settings_files import files_of

__all__ = ["is_alias", "named_in", "plain_host"]


def plain_host(address: str) -> SSHConfig:
    """Return the SSHConfig of an address that the inventory does not have.

    :raises UnknownHostError: it is nearly a name of the inventory, and no alias of ssh's files.
    :raises ValueError: it is not an address.
    """
    config = SSHConfig.parse(address)
    if is_ip_address(address):
        return config  # a neighbour of another address is no mistyped one
    inventory = usual_inventory()
    near = meant_by(config.host, inventory) if inventory is not None else ()
    if near and not is_alias(config.host):
        raise UnknownHostError(f"unknown host {address!r}", near=near)
    return config


def is_alias(name: str) -> bool:
    """Return True if a line of ssh's files names it, and not all hosts.

    Without an ``ssh`` to ask, the ``Host`` lines are compared here; included files are not read
    then, as Paramiko does not read them either.
    """
    answer = ask(name)
    return answer.is_alias if answer is not None else name in named_in([name], files_of(None))


def named_in(names: Iterable[str], files: Iterable[str]) -> set[str]:
    """Return the names that a ``Host`` line other than ``*`` in one of ssh's files matches."""
    lines = [line for file in files for line in directives(Path(file))]
    patterns = [words for keyword, words in lines if keyword == "host"]
    return {name for name in names if any(_names(line, name) for line in patterns)}


def _names(patterns: list[str], name: str) -> bool:
    """Return True if a pattern matches and none with a "!" does (ssh_config(5), PATTERNS)."""
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    wanted = [pattern for pattern in patterns if pattern != "*"]
    return any(fnmatchcase(name, p) for p in wanted) and not any(
        fnmatchcase(name, p) for p in unwanted
    )
