"""The connection of a link pool: it continues an attempt that began while Paramiko was imported."""

from __future__ import annotations

from ringtasks.inventory.host_settings import SSHConfig, changed
from ringtasks.ssh.attempts import HostAttempt
from ringtasks.ssh.substitutes import Note

from .connection import Connection
from .fabric_settings import shared_settings

__all__ = ["PooledConnection"]


class PooledConnection(Connection):
    """A `Connection` in process, whose outcomes the pool gets instead of the health file.

    :param attempt: one to the host of ``config``, which may have dialled already.
    :param report: receives each opening, as does ``attempt.record`` for the jump host.
    """

    _begun: HostAttempt = None  # type: ignore[assignment]  # set before Fabric's constructor runs

    def __init__(
        self, config: SSHConfig, transport: str | None, attempt: HostAttempt, report: Note
    ) -> None:
        self._begun = attempt
        super().__init__(
            config, config=shared_settings(config.ssh_config_file), transport=transport
        )
        self.keep_in_process()
        self._report = report

    def _first_attempt(self) -> HostAttempt | None:
        if not self.gateway and _is_same_way(self._begun.config, self.ssh):
            return self._begun
        self._begun.abandon()  # ~/.ssh/config takes precedence
        return super()._first_attempt()

    def _jump_host_of_inventory(self) -> Connection | None:
        jump_host = super()._jump_host_of_inventory()
        if jump_host is not None:
            jump_host._report = self._begun.record
        return jump_host


def _is_same_way(dialled: SSHConfig, ssh: SSHConfig) -> bool:
    """Return True if a route dialled before the user was known is the host's."""
    named = changed(dialled, user=ssh.user, name=ssh.name, ssh_config_host=ssh.ssh_config_host)
    return named == ssh
