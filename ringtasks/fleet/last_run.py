"""Remember the hosts that failed in the last run of a kind, for ``--rerun-failed``.

One small JSON file per kind and name in the state folder, replaced atomically.  It holds the hosts
files and the hosts' addresses too: a host of the same name in another inventory, or at another
address, is another host.  The command is not stored, since it may hold a secret.  An error here
never ends a run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ringtasks.common import rehearsal
from ringtasks.common.atomic_file import replace_file
from ringtasks.common.regular_file import read_regular
from ringtasks.common.text import printable
from ringtasks.errors import StateFileError, UsageError
from ringtasks.inventory.model import ADDRESS_KEYS, HostConfig, Inventory
from ringtasks.inventory.state_files import state_folder

from .results import HostResult

__all__ = ["LastRun"]

_VERSION = 1
_ADDRESS_KEYS = (*ADDRESS_KEYS, "ssh_port", "tailscale_port", "proxy_jump")


class LastRun:
    """The last run of one kind (``run``, ``put`` …), on this machine, by this user.

    :param folder: default: the state folder.
    :param name: the last one of that name; None: the last one, with a name or without.
    """

    def __init__(self, kind: str, folder: Path | None = None, *, name: str | None = None) -> None:
        self.kind = kind if name is None else f"{kind} --name {name}"
        file = f"last-{kind}.json" if name is None else f"last-{kind}.{quote(name, safe='')}.json"
        self.path = (folder or state_folder()) / file

    def remember(self, results: Iterable[HostResult], configs: Sequence[HostConfig] = ()) -> None:
        """Replace the remembered results; a rehearsal is not remembered.

        :param configs: the hosts of the run.
        :raises StateFileError: the file cannot be written.
        """
        if rehearsal.current() is not None:
            return
        hosts = {found.host: str(found.state) for found in results}
        addresses = {config.name: _addresses(config) for config in configs}
        document = {
            "version": _VERSION,
            "at": time.time(),
            "inventory": sorted(_resolved(config.file for config in configs)),
            "hosts": hosts,
            "addresses": addresses,
        }
        try:
            text = json.dumps(document, ensure_ascii=False, indent=1)
            replace_file(self.path, text, makes_folder=True)
        except OSError as error:
            raise self._trouble("cannot be written", error) from error

    def undone(self, inventory: Inventory | None = None) -> tuple[str, ...]:
        """Return the hosts that did not succeed, in their order.

        :param inventory: the one in use now; None: do not compare.
        :raises UsageError: there was no run yet, it used another inventory or other addresses, or
            all of its hosts succeeded.
        """
        document = self._read()
        if inventory is not None:
            self._require_files(document, inventory)
        left = tuple(host for host, state in document["hosts"].items() if state != "succeeded")
        if not left:
            raise UsageError(f"--rerun-failed: the last '{self.kind}' succeeded on all hosts")
        if inventory is not None:
            self._require_addresses(document, left, inventory)
        return left

    def _require_files(self, document: dict[str, Any], inventory: Inventory) -> None:
        missing = set(document.get("inventory", ())) - _resolved(inventory.files)
        if document.get("addresses"):  # they are compared; the file may have got another name
            missing = {file for file in missing if Path(file).exists()}
        if missing:
            raise UsageError(
                f"--rerun-failed: the last '{self.kind}' used another inventory; to use it again: "
                f"--inventory {' '.join(sorted(missing))}"
            )

    def _require_addresses(
        self, document: dict[str, Any], names: Iterable[str], inventory: Inventory
    ) -> None:
        remembered: Any = document.get("addresses")
        for name in names if isinstance(remembered, dict) else ():
            if name in remembered and name in inventory.hosts:
                now = _addresses(inventory.hosts[name])
                if remembered[name] != now:
                    raise UsageError(
                        f"--rerun-failed: {name} had another address in the last '{self.kind}', "
                        f"{_shown(remembered[name])}, now {_shown(now)}; if it is the same host, "
                        f"name the hosts: --host {','.join(names)}"
                    )

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(read_regular(self.path))
        except FileNotFoundError:
            raise UsageError(
                f"--rerun-failed: no '{self.kind}' on several hosts is remembered yet"
            ) from None
        except OSError as error:
            raise self._trouble("cannot be read", error) from error
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or not isinstance(document.get("hosts"), dict):
            raise UsageError(f"--rerun-failed: {self.path} is damaged: name the hosts with --host")
        return document

    def _trouble(self, what: str, error: OSError) -> StateFileError:
        return StateFileError(str(self.path), f"{what}: {error.strerror}")


def _resolved(files: Iterable[str]) -> set[str]:
    """Return absolute paths without symbolic links: a link may lead to another file by now."""
    return {str(Path(file).resolve()) for file in files if file}


def _addresses(host: HostConfig) -> dict[str, str | int]:
    """Return the settings that tell where a host is."""
    given = {key: getattr(host, key) for key in _ADDRESS_KEYS}
    return {key: value for key, value in given.items() if value is not None}


def _shown(addresses: Any) -> str:
    return printable(json.dumps(addresses, ensure_ascii=False)).strip("{}") or "none"
