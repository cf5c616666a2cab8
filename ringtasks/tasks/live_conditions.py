"""Measure hosts for the live conditions of ``--host``, with one request to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.common.text import bounded, joined_lines
from ringtasks.errors import UsageError
from ringtasks.output import display

from .core_flags import is_dry

if TYPE_CHECKING:
    from ringtasks.inventory.model import HostConfig

__all__ = ["measure"]


def measure(c: Context, hosts: Sequence[HostConfig]) -> Mapping[str, Mapping[str, float]]:
    """Ask hosts; one that does not answer is left out, with a message."""
    if is_dry(c):
        raise UsageError("--dry asks no host, but a live condition would: name the hosts")
    from ringtasks import jobs
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.host_settings import config_or_fault
    from ringtasks.jobs.host_status import measurements

    found = {}
    for each in jobs.overview([SSHClient(config_or_fault(host)) for host in hosts]):
        if each.error is None:
            found[each.host_id] = measurements(each)
        else:
            display.say(f"left out, not asked: {bounded(joined_lines(each.error))}")
    return found
