"""Check that a control master can hold a connection.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ringtasks.inventory.host_settings import SSHConfig

__all__ = ["PRIVATE_KEY_VARIABLE", "refusal_reason"]

PRIVATE_KEY_VARIABLE = "RINGTASKS_SSH_KEY"


def refusal_reason(config: SSHConfig, environ: Mapping[str, str]) -> str | None:
    """Return the reason why no master is possible for this host; None: one is possible."""
    if not config.use_control_master:
        return "use_control_master is off"
    if config.control_persist <= 0:
        return "control_persist is 0"  # to ssh that would mean: keep it for ever
    if config.embedded:
        return "the host lives in this process, and the master would outlive it"
    if config.private_key or environ.get(PRIVATE_KEY_VARIABLE):
        return "the private key is not in a file, and is never written to one"
    return None
