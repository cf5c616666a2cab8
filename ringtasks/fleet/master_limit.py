"""Use the control masters that are running, but start only a bounded number of new ones.

A master costs a process and ten times the log-in of an in-process link.  At most `DEFAULT_LIMIT`
are kept, so a run on more hosts would end the masters that it started first.
"""

from __future__ import annotations

from dataclasses import replace

from ringtasks.inventory.host_settings import SSHConfig

__all__ = ["may_start", "without_new"]


def may_start(hosts: int) -> bool:
    """Return True if a run on this many hosts may start masters."""
    from ringtasks.ssh.master.running_masters import DEFAULT_LIMIT

    return hosts <= DEFAULT_LIMIT


def without_new(config: SSHConfig, transport: str | None) -> SSHConfig:
    """Return ``config``, changed so that it uses a running master but starts none."""
    if not config.use_control_master or config.embedded:
        return config
    from ringtasks.ssh.master.lookup import find

    link = find(config, transport)
    if link is None:
        return replace(config, use_control_master=False)
    link.close()
    return config
