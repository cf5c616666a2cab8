"""Time of a command on many hosts: loopback addresses of one sshd, with all log-ins.

    pip install parallel-ssh
    python benchmarks/fleet.py [--hosts 200] [--large 1000] [--rounds 3] [--only cold,bad]

ringtasks, AsyncSSH, parallel-ssh and clush run ``echo`` on every host, 64 at once, each in a
process of its own and in turn, round by round, so that a machine that grows slower does so for all.
Read the ratios and the costs per host: the seconds are this machine's.

* ``cold``: every host is logged in to anew, by the in-process link;
* ``large``: the same for many hosts, with the peak memory;
* ``bad``: a tenth of the hosts drops packets, a tenth accepts and is silent, a tenth refuses;
* ``warm``: again over what the run before has left open (control masters).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

FANOUT = 64
COMMAND = "echo hi"
CONNECT_TIMEOUT = 5.0  # seconds, in `bad`
PEERS = ("asyncssh", "parallel-ssh", "clush")

Target = tuple[str, int]


def main() -> None:
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(**json.loads(sys.stdin.read()))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--large", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS), help="with whom to compare")
    parser.add_argument("--only", default="cold,large,bad,warm")
    given = parser.parse_args()
    with lab() as place:
        peers = [peer for peer in given.peers.split(",") if peer]
        if "cold" in given.only:
            compare(f"cold, {given.hosts} hosts", place, given.hosts, given.rounds, peers)
        if "large" in given.only:
            compare(f"cold, {given.large} hosts", place, given.large, given.rounds, peers)
        if "bad" in given.only:
            with_bad_hosts(place, given.hosts, given.rounds)
        if "warm" in given.only:
            warm(place, 50, given.rounds)


class Place:
    """The server and how to log in there."""

    def __init__(self, port: int, user: str, key: str) -> None:
        self.port, self.user, self.key = port, user, key

    def targets(self, count: int) -> list[Target]:
        return [(f"127.0.{n // 250 + 1}.{n % 250 + 1}", self.port) for n in range(count)]

    def run(self, kind: str, targets: Sequence[Target], **options: Any) -> dict[str, Any]:
        """Measure in a process of its own."""
        request = {
            "kind": kind, "targets": targets, "user": self.user, "key": self.key, **options,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, __file__, "measure"],
            input=json.dumps(request), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{kind}: {done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@contextlib.contextmanager
def lab() -> Iterator[Place]:
    from tests.support.sshd import Sshd, make_key

    with tempfile.TemporaryDirectory(prefix="rt-bench-") as home:
        (Path(home) / "run").mkdir(mode=0o700)  # for control masters, which end with the server
        os.environ.update(HOME=home, XDG_STATE_HOME=f"{home}/state", XDG_RUNTIME_DIR=f"{home}/run")
        key = make_key(Path(home) / "key")
        with Sshd(key, addresses=["0.0.0.0"]) as sshd:  # all of 127.0.0.0/8
            yield Place(sshd.port, sshd.user, str(key))


def compare(title: str, place: Place, count: int, rounds: int, peers: Sequence[str]) -> None:
    taken: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("ringtasks", *peers)}
    for _ in range(rounds):
        for kind, found in taken.items():
            found.append(place.run(kind, place.targets(count)))
    print(f"{title}, medians of {rounds}")
    ours = median(taken["ringtasks"], "seconds")
    for kind, found in taken.items():
        seconds = median(found, "seconds")
        assert all(one["succeeded"] == count for one in found), (kind, found)
        ratio = "" if kind == "ringtasks" else f"   ringtasks / {kind}: {ours / seconds:.2f}"
        print(
            f"  {kind:12} {seconds:6.2f} s, {seconds / count * 1000:5.1f} ms a host,"
            f" {median(found, 'cpu_seconds') / count * 1000:4.1f} ms CPU,"
            f" {median(found, 'peak_mb'):4.0f} MB{ratio}"
        )


def with_bad_hosts(place: Place, count: int, rounds: int) -> None:
    from tests.support.faulty import Blackhole, Refusing, Silent

    good = place.targets(count - 3 * (count // 10))
    with Blackhole() as hole, Silent() as silent, Refusing() as refusing:
        bad = [(server.address, server.port) for server in (hole, silent, refusing)]
        mixed: list[Target] = []
        for n, target in enumerate(good):
            mixed.append(target)
            if n * (count // 10) // len(good) != (n + 1) * (count // 10) // len(good):
                mixed += bad
        alone, among, whole = [], [], []
        for _ in range(rounds):
            alone.append(place.run("ringtasks", good, connect_timeout=CONNECT_TIMEOUT))
            both = place.run("ringtasks", mixed, connect_timeout=CONNECT_TIMEOUT)
            among.append(both["last_good"])
            whole.append(both["seconds"])
            assert both["succeeded"] == len(good), both
    without = median(alone, "last_good")
    print(f"{len(good)} good hosts among {len(mixed)}, medians of {rounds}")
    print(f"  the good alone {without:5.2f} s, among the bad {statistics.median(among):5.2f} s")
    print(f"  ratio {statistics.median(among) / without:.2f}")
    print(f"  the whole {statistics.median(whole):5.2f} s, connect_timeout {CONNECT_TIMEOUT:g} s")


def warm(place: Place, count: int, rounds: int) -> None:
    targets = place.targets(count)
    in_process, cold, again = [], [], []
    for number in range(rounds):
        folder = Path(os.environ["HOME"]) / f"run-{number}"  # one without masters each time
        folder.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(folder)
        in_process.append(place.run("ringtasks", targets))
        cold.append(place.run("ringtasks", targets, use_control_master=True))
        again.append(place.run("ringtasks", targets, use_control_master=True))
    print(f"warm, {count} hosts, medians of {rounds}")
    seconds = median(again, "seconds")
    print(f"  over masters that live {seconds:.2f} s")
    for kind, found in (("starts the masters", cold), ("is in process", in_process)):
        before = median(found, "seconds")
        print(f"  cold, which {kind}: {before:.2f} s; warm / cold: {seconds / before:.2f}")


def median(found: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.median(one[name] for one in found)


def measure(
    kind: str, targets: Sequence[Target], user: str, key: str, **options: Any
) -> dict[str, Any]:
    """Run in a process of its own: imports are not counted, except those of clush."""
    run = {
        "ringtasks": run_ringtasks, "asyncssh": run_asyncssh,
        "parallel-ssh": run_parallel_ssh, "clush": run_clush,
    }[kind]  # fmt: skip
    begin = run(targets, user, key, **options)
    started, used = time.perf_counter(), os.times()
    statuses, last_good = begin()
    seconds = time.perf_counter() - started
    now = os.times()
    of = resource.RUSAGE_CHILDREN if kind == "clush" else resource.RUSAGE_SELF
    spent = sum(now[:4]) - sum(used[:4])
    return {
        "succeeded": statuses.count(0),
        "seconds": seconds,
        "last_good": last_good - started if last_good else seconds,
        "cpu_seconds": spent,
        "peak_mb": resource.getrusage(of).ru_maxrss / 1024,
    }


def run_ringtasks(targets: Any, user: str, key: str, **options: Any) -> Any:
    import ringtasks.ssh.inprocess.pooled  # both are loaded when first used
    import ringtasks.ssh.master.open  # noqa: F401
    from ringtasks import SSHConfig, fleet

    options.setdefault("use_control_master", False)
    configs = [
        SSHConfig(host, port, user, key, name=f"h{n}", **options)
        for n, (host, port) in enumerate(targets)
    ]

    def begin() -> tuple[list[int], float]:
        statuses, last_good = [], 0.0
        for found in fleet.stream(configs, COMMAND, fanout=FANOUT):
            statuses.append(found.result.returncode)
            if found:
                last_good = time.perf_counter()
        return statuses, last_good

    return begin


def run_asyncssh(targets: Any, user: str, key: str) -> Any:
    import asyncssh

    async def everywhere() -> list[int]:
        places = asyncio.Semaphore(FANOUT)

        async def one(host: str, port: int) -> int:
            async with (
                places,
                asyncssh.connect(
                    host, port, username=user, client_keys=[key], known_hosts=None
                ) as connection,
            ):
                return int((await connection.run(COMMAND)).exit_status or 0)

        return await asyncio.gather(*(one(host, port) for host, port in targets))

    return lambda: (asyncio.run(everywhere()), 0.0)


def run_parallel_ssh(targets: Any, user: str, key: str) -> Any:
    from pssh.clients import ParallelSSHClient

    def begin() -> tuple[list[int], float]:
        hosts, port = [host for host, _ in targets], targets[0][1]
        client = ParallelSSHClient(hosts, user=user, port=port, pkey=key, pool_size=FANOUT)
        outputs = client.run_command(COMMAND)
        client.join(outputs)
        return [output.exit_code for output in outputs], 0.0

    return begin


def run_clush(targets: Any, user: str, key: str) -> Any:
    options = [
        f"-p {targets[0][1]}", f"-i {key}", "-o LogLevel=ERROR",
        "-o StrictHostKeyChecking=no", "-o UserKnownHostsFile=/dev/null",
    ]  # fmt: skip
    argv = [
        str(Path(sys.executable).with_name("clush")), "-f", str(FANOUT), "-l", user,
        "-w", ",".join(host for host, _ in targets), "-o", " ".join(options), COMMAND,
    ]  # fmt: skip

    def begin() -> tuple[list[int], float]:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return [0] * done.stdout.count(": hi\n"), 0.0

    return begin


if __name__ == "__main__":
    main()
