"""The check of a host's key against its pins, which Paramiko calls before it continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import paramiko

from ringtasks.common.light_typing import Protocol
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.host_keys import Certified, HostKey, KeyVerdict, judge
from ringtasks.ssh.paramiko_private import speed_up_host_keys
from ringtasks.ssh.pins import KnownHosts, names_of_host

from .algorithms import may_sign

__all__ = ["check_pins"]


class Configured(Protocol):
    """A connection, whose configuration may change until it is opened."""

    ssh: SSHConfig
    ssh_config: Mapping[str, Any]


def check_pins(client: paramiko.SSHClient, connection: Configured) -> PinPolicy:
    """Let a new client check the host's key against the pins."""
    speed_up_host_keys(client)
    policy = PinPolicy(connection)
    client.set_missing_host_key_policy(policy)
    return policy


class PinPolicy(paramiko.MissingHostKeyPolicy):
    """Paramiko's policy for every key, since Paramiko's own table of known hosts stays empty."""

    def __init__(self, connection: Configured) -> None:
        self._connection = connection
        self._pin: Callable[[], None] | None = None

    def pin(self) -> None:
        """Pin the key of a first contact; to be called when the host has accepted the log-in.

        A machine that refuses it is not the host: an old address may belong to another one now.

        :raises HostKeyError: another key was pinned meanwhile.
        """
        if self._pin is not None:
            self._pin()
        self._pin = None

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
        ssh, known_hosts = self._connection.ssh, KnownHosts()
        settings = self._connection.ssh_config
        _check_size(ssh, key, int(settings.get("requiredrsasize", 0)))
        offered, certified = _offer(ssh, key)
        if certified is not None and not may_sign(certified.authority.type, settings):
            certified = None  # as if the key came without a certificate

        def verdict() -> KeyVerdict:
            pins = known_hosts.pins(ssh, offered)
            return judge(offered, pins, certified, is_ephemeral=ssh.is_ephemeral)

        def check(found: KeyVerdict) -> None:
            if not found.is_trusted:
                from ringtasks.ssh.refused_host_key import changed_key

                raise changed_key(ssh, offered, found.refusal_reason)

        found = verdict()
        check(found)

        def pin() -> None:
            if not _is_pinned(ssh, known_hosts, found):
                check(verdict())  # another key was pinned a moment ago

        self._pin = pin


def _check_size(ssh: SSHConfig, key: paramiko.PKey, required_bits: int) -> None:
    """Refuse a short RSA key (ssh_config(5), RequiredRSASize)."""
    if isinstance(key, paramiko.RSAKey) and key.get_bits() < required_bits:
        from ringtasks.ssh.failure_table import LONGER_KEY
        from ringtasks.ssh.refused_host_key import refused_key

        evidence = f"its RSA key has {key.get_bits()} bits: RequiredRSASize is {required_bits}"
        raise refused_key(ssh, evidence, LONGER_KEY)


def _offer(ssh: SSHConfig, key: paramiko.PKey) -> tuple[HostKey, Certified | None]:
    """Return the key that a server has proven to have, and its certificate."""
    offered = HostKey(key.get_name(), key.get_base64())
    if key.public_blob is None:
        return offered, None
    from ringtasks.ssh.certificates import certified

    try:
        blob = key.public_blob.key_blob
        return offered, certified(blob, offered, names_of_host(ssh), time.time())
    except ValueError:  # like OpenSSH, ignore a certificate that cannot be read
        return offered, None


def _is_pinned(ssh: SSHConfig, known_hosts: KnownHosts, verdict: KeyVerdict) -> bool:
    """Pin a new key; False: another one was pinned meanwhile."""
    if verdict.new_key is not None:
        return known_hosts.pin(ssh, verdict.new_key)
    if verdict.new_authority is not None:
        return known_hosts.pin(ssh, verdict.new_authority, is_authority=True)
    return True
