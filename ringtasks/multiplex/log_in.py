"""The log-in behind a new control master, by whichever route works.

ssh dials for itself.  Which route it is to take is found out as for any connection (`approach`):
the one that shows a banner first, and the next where the log-in fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..approach import Approach, outcome
from ..config import SSHConfig
from ..errors import RouteError, StateFileError, UnreachableError
from ..health import Outcome
from ..health_notes import Ledger
from .link import MuxLink
from .master import attach
from .start import can_master, check_key, start

if TYPE_CHECKING:
    from ..dialing import Gateway

__all__ = ["LogIn"]


class LogIn:
    """One try at starting a master, over one route after the other."""

    def __init__(
        self,
        config: SSHConfig,
        transport: str | None,
        note: Callable[[Outcome], None],
        ledger: Ledger | None = None,
    ) -> None:
        self._config, self._transport, self._note = config, transport, note
        self._ledger = ledger
        self._is_possible = True
        self._gateway: Gateway | None = None
        self._close_gateway: Callable[[], None] = lambda: None
        self._approach = self._make_approach()

    def run(self) -> MuxLink | None:
        """None: no control master can hold this connection.

        :raises UnreachableError: no route works.
        :raises UsageError: the configuration cannot be used.
        """
        if not self._is_possible or shutil.which("ssh") is None:
            return None
        check_key(self._config)
        try:
            return self._start()
        except UnreachableError as error:
            self._note(outcome(self._config.id, None, error.failures))
            raise
        finally:
            self._close_gateway()

    def _make_approach(self) -> Approach:
        """Fabric is asked where there is a jump host, or ``~/.ssh/config`` may know the address."""
        config = self._config
        if not config.proxy_jump and not Path("~/.ssh/config").expanduser().exists():
            return Approach(config, self._transport, self._ledger)
        from ..connection import Connection

        known = Connection(replace(config, use_control_master=False), transport=self._transport)
        # Its own jump hosts: ssh would reach them without looking at our pins.
        self._is_possible = bool(config.proxy_jump) or not known.gateway
        self._gateway, self._close_gateway = known.gateway_opener(), known.close_gateway
        return Approach(known.ssh, self._transport, self._ledger)

    def _start(self) -> MuxLink | None:
        approach = self._approach
        while True:
            dialled = approach.next_door(self._gateway)
            dialled.stream.close()
            if not can_master(self._config, dialled.route):
                return None
            try:
                master = start(
                    self._config, dialled.route, self._transport, timeout=approach.remaining()
                )
            except RouteError as error:
                approach.refused(error)
                continue
            except StateFileError:
                return None
            self._note(outcome(self._config.id, master.route, approach.arrived()))
            found = attach(self._config, self._transport)
            return None if found is None else MuxLink(self._config, found)
