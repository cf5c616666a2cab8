"""Run one command on many hosts: a bounded number at the same time, or in batches.

Every host has a result.

::

    from ringtasks import fleet

    for found in fleet.stream("@gpu", "nvidia-smi -L"):       # as they arrive
        print(found.host, found.state, found.result.stdout)

    result = fleet.run("@gpu,!vast-*", "df -h /", fanout=32, max_failures="10%")
    print([found.host for found in result.failed])             # in the order of the inventory
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ringtasks.client.targets import Hosts

from .request import FleetRequest
from .results import FleetResult, FleetState, HostResult
from .run import FleetRun

__all__ = [
    "FleetRequest",
    "FleetResult",
    "FleetRun",
    "FleetState",
    "HostResult",
    "run",
    "run_async",
    "stream",
]


def run(
    hosts: Hosts,
    command: str,
    timeout: float | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> FleetResult:
    """Run ``command`` on all hosts, wait, and return the results in the order of ``hosts``.

    :param hosts: a selector, or several names, HostConfigs, SSHConfigs or clients (`targets_of`).
    :param options: the other fields of `FleetRequest`: ``fanout``, ``serial``, ``max_failures`` …
    :raises UsageError: no host matched, or a configuration cannot be used; nothing was sent.
    :raises KeyboardInterrupt: Ctrl-C; the remote processes were ended.
    """
    return FleetRun(hosts, FleetRequest(command, timeout, cwd, env or {}, **options)).wait()


async def run_async(
    hosts: Hosts,
    command: str,
    timeout: float | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> FleetResult:
    """Run like `run`, for asyncio. Cancelling the awaiting task ends the remote processes."""
    from ringtasks.common import thread_pool

    running = FleetRun(hosts, FleetRequest(command, timeout, cwd, env or {}, **options))
    return await thread_pool.call(running.wait, running.stop)


def stream(
    hosts: Hosts,
    command: str,
    timeout: float | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[HostResult]:
    """Yield the results of `run`, each as it arrives.

    If the caller leaves the loop, the run is stopped and its remote processes are ended.
    """
    yield from FleetRun(hosts, FleetRequest(command, timeout, cwd, env or {}, **options))
