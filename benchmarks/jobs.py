"""Time of jobs beside plain commands: one sshd on loopback stands for all hosts.

    python benchmarks/jobs.py [--hosts 100] [--rounds 5]

The hosts share a home, with 20 jobs in it.  What is compared takes turns, round by round, so that a
machine that grows slower does so for both.  Read the ratios: the milliseconds are this machine's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ringtasks import SSHClient, SSHConfig, jobs  # noqa: E402  # needs the path above
from ringtasks.common.fanout import FANOUT, each  # noqa: E402
from tests.support.sshd import Sshd, make_key  # noqa: E402

JOBS = 20


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--hosts", type=int, default=100)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HOME=folder, XDG_RUNTIME_DIR=folder)
        key = make_key(Path(folder) / "key")
        with Sshd(key, config=["MaxSessions 100"]) as server:
            config = SSHConfig(
                server.address, server.port, server.user, str(key), use_control_master=False
            )
            configs = [replace(config, name=f"host-{n}") for n in range(given.hosts)]
            with SSHClient(configs[0]) as client:
                started = [jobs.start(client, "sleep 600") for _ in range(JOBS)]
                starting(configs[0], given.rounds * 4)
                listing(configs, given.rounds)
                for job in started:
                    job.stop(0)


def starting(config: SSHConfig, rounds: int) -> None:
    """A start beside a run of the same command, over a link of its own and over an open one."""

    def fresh(action: Callable[[SSHClient], object]) -> Callable[[], object]:
        def once() -> object:
            with SSHClient(config) as client:
                return action(client)

        return once

    compare(
        "start, new connection",
        fresh(lambda client: client.run("true")),
        fresh(lambda client: jobs.start(client, "true")),
        rounds,
    )
    with SSHClient(config) as client:
        client.run("true")
        compare(
            "start, open connection",
            lambda: client.run("true"),
            lambda: jobs.start(client, "true"),
            rounds,
        )


def listing(configs: list[SSHConfig], rounds: int) -> None:
    """The jobs of all hosts beside ``true`` on all hosts."""

    def run_everywhere() -> None:
        clients = [SSHClient(config) for config in configs]
        for _, result in each(clients, lambda client: client.run("true"), FANOUT):
            assert result.success, result
        for client in clients:
            client.close_link()

    def list_everywhere() -> None:
        clients = [SSHClient(config) for config in configs]
        for found in jobs.list(clients):
            assert found.error is None, found
            assert len(found.jobs) >= JOBS
        for client in clients:
            client.close_link()

    compare(f"jobs of {len(configs)} hosts", run_everywhere, list_everywhere, rounds)


def compare(
    what: str, base: Callable[[], object], action: Callable[[], object], rounds: int
) -> None:
    times: list[tuple[float, float]] = [(timed(base), timed(action)) for _ in range(rounds + 1)]
    plain, ours = (statistics.median(column) for column in zip(*times[1:], strict=True))
    print(f"{what}: {ours * 1000:.0f} ms, plain {plain * 1000:.0f} ms: {ours / plain:.2f} x")


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
