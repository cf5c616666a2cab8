"""The error if a host key is refused, with its evidence and its advice."""

from __future__ import annotations

from ringtasks.errors import HostKeyError, Reason
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.state_files import known_hosts_file

from .host_keys import BAD_CERTIFICATE, IMPOSTOR, IS_REVOKED, UNKNOWN, HostKey

__all__ = ["advice_to_learn", "advice_to_update", "changed_key", "refused_key"]


def refused_key(config: SSHConfig, evidence: str, advice: str) -> HostKeyError:
    """Return the error; the route is not known yet."""
    return HostKeyError(
        config.id, route="", reason=Reason.HOST_KEY, evidence=evidence, advice=advice
    )


def changed_key(config: SSHConfig, offered: HostKey, reason: str) -> HostKeyError:
    """Return the error for a key that is not the pinned one, or of a host that is not known."""
    if reason == UNKNOWN:
        return refused_key(config, f"{UNKNOWN}: it showed {offered}", advice_to_learn(config))
    evidence = f"host key changed: got {offered}, {reason}: {IMPOSTOR}"
    return refused_key(config, evidence, advice_to_update(config, evidence))


def advice_to_update(config: SSHConfig, evidence: str) -> str:
    """Return the advice for a box that was rebuilt: the place of its pin."""
    if IS_REVOKED in evidence:
        return "the box needs a new key; if this one was revoked by mistake, remove the revocation"
    if BAD_CERTIFICATE in evidence:
        return "the host needs a new certificate, for one of its names; or set ssh_host_key"
    place = f"{known_hosts_file()} (remove the line of {config.id!r})"
    if config.ssh_host_key:
        place = "ssh_host_key in the hosts file"
    return f"if the box was rebuilt, update {place}"


def advice_to_learn(config: SSHConfig) -> str:
    """Return the advice for a host whose key the user has to give."""
    return f"set ssh_host_key of {config.id!r} to its key, or add the key to ~/.ssh/known_hosts"
