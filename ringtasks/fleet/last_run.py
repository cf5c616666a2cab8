"""Remember the hosts that failed in the last run of a kind, for ``--rerun-failed``.

One small JSON file per kind in the state folder, replaced atomically.  The command is not stored,
since it may hold a secret.  An error here never ends a run.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ringtasks.errors import StateFileError, UsageError
from ringtasks.inventory.config import state_folder

from .results import HostResult

__all__ = ["LastRun"]

_VERSION = 1


class LastRun:
    """The last run of one kind (``run``, ``put`` …), on this machine, by this user.

    :param folder: default: the state folder.
    """

    def __init__(self, kind: str, folder: Path | None = None) -> None:
        self.kind = kind
        self.path = (folder or state_folder()) / f"last-{kind}.json"

    def remember(self, results: Iterable[HostResult]) -> None:
        """Replace the remembered results.

        :raises StateFileError: the file cannot be written.
        """
        hosts = {found.host: str(found.state) for found in results}
        document = {"version": _VERSION, "at": time.time(), "hosts": hosts}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # mkstemp makes it for its owner only, under a name that no other process has.
            descriptor, draft = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:
            raise self._trouble("cannot be written", error) from error
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, ensure_ascii=False, indent=1)
            Path(draft).replace(self.path)
        except OSError as error:
            with suppress(OSError):
                Path(draft).unlink()
            raise self._trouble("cannot be written", error) from error

    def undone(self) -> tuple[str, ...]:
        """Return the hosts that did not succeed, in their order.

        :raises UsageError: there was no run yet, or all of its hosts succeeded.
        """
        hosts = self._read()
        left = tuple(host for host, state in hosts.items() if state != "succeeded")
        if not left:
            raise UsageError(f"--rerun-failed: the last '{self.kind}' succeeded on all hosts")
        return left

    def _read(self) -> dict[str, str]:
        try:
            hosts = json.loads(self.path.read_bytes())["hosts"]
        except FileNotFoundError:
            raise UsageError(
                f"--rerun-failed: no '{self.kind}' on several hosts is remembered yet"
            ) from None
        except OSError as error:
            raise self._trouble("cannot be read", error) from error
        except (ValueError, KeyError, TypeError):
            hosts = None
        if not isinstance(hosts, dict):
            raise UsageError(f"--rerun-failed: {self.path} is damaged: name the hosts with --host")
        return hosts

    def _trouble(self, what: str, error: OSError) -> StateFileError:
        return StateFileError(str(self.path), f"{what}: {error.strerror}")
