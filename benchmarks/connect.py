"""OpenSSH's own clients through `inv ssh-config`, against the same clients without it.

    python benchmarks/connect.py [--rounds 9] [--mebibytes 256]

On loopback, in turn, round by round; read the ratios and differences of the medians.  It measures
the start of ``ringtasks connect`` beside an empty Python, ``ssh true`` with a dead first route
before and after the health file knows, over our control master beside ``ssh -S``, and bulk data
with the connection passed to ssh (ProxyUseFdpass) and carried.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ringtasks.inventory.host_settings import SSHConfig  # noqa: E402  # needs the path above
from ringtasks.ssh.generated_config import ClientFiles, block_of  # noqa: E402
from tests.support.blackhole import blackhole  # noqa: E402
from tests.support.sshd import Sshd, make_key  # noqa: E402

MEBIBYTE = 1 << 20
PROGRAM = Path(sys.executable).with_name("ringtasks")


class Bench:
    """A host ``box`` whose first route is ``dead``, in a folder of its own."""

    def __init__(self, folder: Path, sshd: Sshd, key: Path, dead: int) -> None:
        self.folder, self.sshd, self.key = folder, sshd, key
        self.hosts = folder / "hosts.yaml"
        fields = {
            "ssh_host": sshd.address, "ssh_port": sshd.port, "ssh_user": sshd.user,
            "ssh_key": str(key), "tailscale_ip": "127.0.0.1", "tailscale_port": dead,
        }  # fmt: skip
        self.hosts.write_text(json.dumps({"hosts": {"box": fields}}))
        self.config = folder / "config"
        pins = folder / "known_hosts"
        self.block = block_of(
            SSHConfig(sshd.address, sshd.port, sshd.user, str(key), name="box"),
            "box",
            ClientFiles(PROGRAM, self.hosts, pins),
        )
        self.config.write_text(self.block)
        self.carried = folder / "carried"
        without = self.block.replace(" --fdpass", "").replace("ProxyUseFdpass yes", "")
        self.carried.write_text(without)

    def direct(self, *words: str) -> list[str]:
        options = [
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-i", str(self.key), "-p", str(self.sshd.port),
        ]  # fmt: skip
        return ["ssh", "-F", "none", *options, f"{self.sshd.user}@{self.sshd.address}", *words]

    def through(self, config: Path, *words: str) -> list[str]:
        return ["ssh", "-F", str(config), "box", *words]

    def forget_health(self) -> None:
        (self.folder / "ringtasks" / "health.json").unlink(missing_ok=True)

    def forget(self) -> None:
        shutil.rmtree(self.folder / "ringtasks", ignore_errors=True)

    def start_of_connect(self) -> float:
        """Return the seconds of user and system time until ssh has the connection."""
        ours, theirs = socket.socketpair()
        words = [PROGRAM, "connect", "--inventory", self.hosts, "--fdpass", "--", "box"]
        with ours:
            process = subprocess.Popen(words, stdin=theirs, stdout=theirs)
            theirs.close()
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            used = usage(process)
        for descriptor in descriptors:
            os.close(descriptor)
        return used


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mebibytes", type=int, default=256)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as name, blackhole() as dead:
        folder = Path(name)
        for variable in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            os.environ[variable] = name
        key = make_key(folder / "key")
        with Sshd(key) as sshd:
            bench = Bench(folder, sshd, key, dead)
            starts(bench, given.rounds)
            masters(bench, given.rounds)
            bulk(bench, given.rounds, given.mebibytes)


def starts(bench: Bench, rounds: int) -> None:
    """Compare the time of ``ssh true`` and the processor time of connect."""

    def first(forget: Callable[[], None]) -> float:
        forget()
        return elapsed(bench.through(bench.config, "true"))

    elapsed(bench.through(bench.config, "true"))  # makes the plan
    found = medians(
        rounds,
        {
            "empty python": lambda: usage(subprocess.Popen([sys.executable, "-c", "pass"])),
            "connect": bench.start_of_connect,
            "direct": lambda: elapsed(bench.direct("true")),
            "known": lambda: elapsed(bench.through(bench.config, "true")),
        },
    )
    cold = medians(
        rounds,
        {
            "anew": lambda: first(bench.forget),
            "unknown": lambda: first(bench.forget_health),
        },
    )
    more = (found["connect"] - found["empty python"]) * 1000
    print(f"connect, processor time: empty Python + {more:.1f} ms")
    print(f"first route black-holed: direct + {(cold['unknown'] - found['direct']) * 1000:.0f} ms")
    print(f"  at the first start ever: direct + {(cold['anew'] - found['direct']) * 1000:.0f} ms")
    print(f"then: direct + {(found['known'] - found['direct']) * 1000:.0f} ms")


def masters(bench: Bench, rounds: int) -> None:
    """Compare a session over a master that the configuration names with ``ssh -S``."""
    socket_path = bench.folder / "m"
    config = bench.folder / "warm"
    config.write_text(bench.block.replace("ControlPath none", f"ControlPath {socket_path}"))
    *direct, host = bench.direct()
    master = [*direct, "-S", str(socket_path), "-M", "-f", "-N", host]
    subprocess.run(master, check=True)
    try:
        found = medians(
            rounds * 3,
            {
                "ssh -S": lambda: elapsed(
                    ["ssh", "-F", "none", "-S", str(socket_path), "x", "true"]
                ),
                "ssh": lambda: elapsed(bench.through(config, "true")),
            },
        )
        print(f"over a master: ssh -S + {(found['ssh'] - found['ssh -S']) * 1000:.1f} ms")
    finally:
        subprocess.run(["ssh", "-S", socket_path, "-O", "exit", "x"], check=False,
                       capture_output=True)  # fmt: skip


def bulk(bench: Bench, rounds: int, mebibytes: int) -> None:
    """Compare the throughput of large streams in both directions."""
    count = mebibytes * MEBIBYTE
    up, down = "cat > /dev/null", f"head -c {count} /dev/zero"
    cases = {
        "direct": lambda *words: bench.direct(*words),
        "passed": lambda *words: bench.through(bench.config, *words),
        "carried": lambda *words: bench.through(bench.carried, *words),
    }
    for direction, command in (("down", down), ("up", up)):
        found = medians(
            min(rounds, 5),
            {
                name: functools.partial(elapsed, words(command), count if command == up else 0)
                for name, words in cases.items()
            },
        )
        ratios = [f"{name} {found['direct'] / found[name]:.2f}" for name in ("passed", "carried")]
        print(f"{mebibytes} MiB {direction}, of direct: {', '.join(ratios)}")


def medians(rounds: int, cases: dict[str, Callable[[], float]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            times[name].append(case())
    return {name: statistics.median(own) for name, own in times.items()}


def elapsed(words: list[str], input_bytes: int = 0) -> float:
    started = time.perf_counter()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        block = bytes(MEBIBYTE)
        for _ in range(input_bytes // MEBIBYTE):
            process.stdin.write(block)
        process.stdin.close()
    assert process.returncode == 0, words
    return time.perf_counter() - started


def usage(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; return its user and system time."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
