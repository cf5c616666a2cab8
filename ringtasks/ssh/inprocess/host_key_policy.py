"""Paramiko asks here whether it may go on: the host's key against its pins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paramiko

from ringtasks.errors import HostKeyError, Reason
from ringtasks.inventory.config import SSHConfig
from ringtasks.ssh.host_keys import HostKey, Pins, judge
from ringtasks.ssh.pins import KnownHosts

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["PinPolicy"]


class PinPolicy(paramiko.MissingHostKeyPolicy):
    """Asked by Paramiko about every key, since its own table of known hosts stays empty."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
        ssh, known_hosts = self._connection.ssh, KnownHosts()
        offered = HostKey(key.get_name(), key.get_base64())
        pins = known_hosts.pins(ssh)
        verdict = judge(offered, pins, is_ephemeral=ssh.is_ephemeral)
        if verdict.is_new and not known_hosts.pin(ssh, offered):
            pins = known_hosts.pins(ssh)  # pinned by somebody else, a moment ago
            verdict = judge(offered, pins)
        if not verdict.is_trusted:
            raise _changed_key(ssh, known_hosts, offered, pins)


def _changed_key(
    ssh: SSHConfig, known_hosts: KnownHosts, offered: HostKey, pins: Pins
) -> HostKeyError:
    if ssh.ssh_host_key:
        place = "ssh_host_key in the hosts file"
    else:
        place = f"{known_hosts.path} (remove the line of {ssh.id!r})"
    pinned = ", ".join(str(pin) for pin in pins.keys)
    why = "WHICH IS REVOKED" if offered in pins.revoked else f"PINNED IS {pinned}"
    return HostKeyError(
        ssh.id,
        route="",
        reason=Reason.HOST_KEY,
        evidence=f"IT SHOWED {offered}, {why}: this may be an impostor",
        advice=f"if the box was rebuilt, update {place}",
    )
