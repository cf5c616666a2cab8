"""Control masters of many hosts: those that live are used, but no crowd of new ones is started.

A master costs a process, and ten times a log-in in this one.  No more are kept than
`DEFAULT_LIMIT`: a run on more hosts than that would push out those of its own beginning.
"""

from __future__ import annotations

from dataclasses import replace

from ringtasks.errors import StateFileError
from ringtasks.inventory.config import SSHConfig

__all__ = ["may_start", "without_new"]


def may_start(hosts: int) -> bool:
    """Whether a run on so many hosts starts masters."""
    from ringtasks.ssh.master.master import DEFAULT_LIMIT

    return hosts <= DEFAULT_LIMIT


def without_new(config: SSHConfig, transport: str | None) -> SSHConfig:
    """``config`` so that it uses a master that lives, but starts none."""
    if not config.use_control_master or config.embedded:
        return config
    from ringtasks.ssh.master.lookup import find

    try:
        found = find(config, transport)
    except StateFileError:  # a folder that cannot be trusted: there is no master for us
        found = None
    return config if found is not None else replace(config, use_control_master=False)
