"""The options of a run, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from ringtasks.common.capture import MAX_OUTPUT_BYTES
from ringtasks.common.fanout import FANOUT
from ringtasks.common.setting_checks import share
from ringtasks.errors import UsageError
from ringtasks.ssh.link import Terminal

__all__ = ["JUMP_FANOUT", "FleetRequest"]

#: Log-ins at once through one jump host: sshd drops more than ten (sshd_config(5), MaxStartups).
JUMP_FANOUT = 8


@dataclass(frozen=True)
class FleetRequest:
    """One command for many hosts.

    :param timeout: seconds for each host; None: the host's ``command_timeout``; 0: no limit.
    :param cwd: the folder; None: the host's ``work_dir``, else the remote home.
    :param env: set for the command only, and in no process list.
    :param stdin: passed on to every host, as it arrives; None: empty.
    :param transport: use this route only.
    :param retries: repeat a failed command up to this many times; only for commands that may run
        twice.
    :param fanout: hosts at the same time. A host that has not answered for a while does not count.
    :param jump_fanout: log-ins at the same time through one jump host.
    :param serial: size of a batch, ``5`` or ``"25%"``; a batch starts when the one before has
        ended. None: one batch.
    :param max_failures: start no more hosts after this many failures, ``3`` or ``"10%"``.
    :param skip_unhealthy: leave out hosts whose circuit is open.
    :param pick: run on this many hosts, the healthiest; None: all.
    :param terminal: a pseudo-terminal for the command; None: none.
    :param label: shown as the command in results; None: the command.
    :param max_output_bytes: kept of each stream of each host.
    :raises UsageError: a number out of range.
    """

    command: str
    timeout: float | None = None
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: BinaryIO | None = None
    transport: str | None = None
    retries: int = 0
    fanout: int = FANOUT
    jump_fanout: int = JUMP_FANOUT
    serial: int | str | None = None
    max_failures: int | str | None = None
    skip_unhealthy: bool = False
    pick: int | None = None
    terminal: Terminal | None = None
    label: str | None = None
    max_output_bytes: int = MAX_OUTPUT_BYTES

    def __post_init__(self) -> None:
        for name, least in (("fanout", 1), ("jump_fanout", 1), ("retries", 0), ("pick", 1)):
            value = getattr(self, name)
            if value is None and name == "pick":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UsageError(
                    f"{name}: expected a whole number, at least {least}, got {value!r}"
                )
        for name in ("serial", "max_failures"):
            if getattr(self, name) is not None:
                share(name, getattr(self, name), 100)

    def batch_size(self, hosts: int) -> int:
        """Return the number of hosts in a batch."""
        return hosts if self.serial is None else share("serial", self.serial, hosts)

    def failure_limit(self, hosts: int) -> int | None:
        """Return the number of failures after which no more hosts are started; None: no limit."""
        if self.max_failures is None:
            return None
        return share("max_failures", self.max_failures, hosts)
