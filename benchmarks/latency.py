"""How long a command takes from the shell's prompt: whole processes, on loopback, in turn.

    python benchmarks/latency.py [--runs 21]

Every tool runs ``hostname`` as the same user on the same sshd, one after the other, round by round,
so that a machine that grows slower does so for all; the first round is not counted.  Read the
ratios: the milliseconds are this machine's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.faulty import Blackhole  # noqa: E402  # needs the path above
from tests.support.sshd import Sshd, make_key  # noqa: E402

BIN = Path(sys.executable).parent
EMPTY_TASKS = "from invoke import task\n\n@task\ndef nothing(c):\n    pass\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=21, help="counted rounds (default 21)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as name, Blackhole() as blackhole:
        folder = Path(name)
        key = make_key(folder / "key")
        # A login shell that reads no rc files of the real user: the same cost for everybody.
        with Sshd(key) as sshd:
            commands = prepare(folder, sshd, key, blackhole)
            medians = measure(commands, folder, runs)
    report(medians)


def prepare(folder: Path, sshd: Sshd, key: Path, blackhole: Blackhole) -> dict[str, list[str]]:
    at = f"{sshd.user}@{sshd.address}"
    common = (
        f"ssh_host: {sshd.address}, ssh_port: {sshd.port}, ssh_user: {sshd.user}, "
        f"ssh_key: {key}, use_control_master: false"
    )
    hole = f"tailscale_ip: {blackhole.address}, tailscale_port: {blackhole.port}"
    (folder / "hosts").mkdir()
    (folder / "hosts" / "bench.yaml").write_text(
        f"bench: {{{common}}}\nbench-hole: {{{common}, {hole}}}\nbench-new: {{{common}, {hole}}}\n"
    )
    (folder / "tasks.py").write_text((ROOT / "tasks.py").read_text())
    (folder / "empty").mkdir()
    (folder / "empty" / "tasks.py").write_text(EMPTY_TASKS)
    known = ["-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "StrictHostKeyChecking=no"]
    inv = str(BIN / "inv")
    return {
        "empty Invoke task": [inv, "-r", str(folder / "empty"), "nothing"],
        "inv --list, empty tasks.py": [inv, "-r", str(folder / "empty"), "--list"],
        "inv --list": [inv, "--list"],
        "ssh": ["ssh", "-F", "none", *known, "-i", str(key), "-p", str(sshd.port), at, "hostname"],
        "fab": [str(BIN / "fab"), "-i", str(key), "-H", f"{at}:{sshd.port}", "--", "hostname"],
        "inv run": [inv, "run", "--host", "bench", "--cmd", "hostname"],
        "inv run, first route dead and known": [
            inv, "run", "--host", "bench-hole", "--cmd", "hostname",
        ],
        "inv run, first route dead, first try": [
            inv, "run", "--host", "bench-new", "--cmd", "hostname",
        ],
    }  # fmt: skip


def measure(commands: dict[str, list[str]], folder: Path, runs: int) -> dict[str, float]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RING")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as users have it
    environ.update(HOME=str(folder), XDG_STATE_HOME=str(folder / "state"))
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for round_number in range(runs + 1):
        for name, argv in commands.items():
            if name.endswith("first try"):
                forget = [str(BIN / "inv"), "health.reset", "--host", "bench-new"]
                subprocess.run(forget, cwd=folder, env=environ, check=True, capture_output=True)
            started = time.perf_counter()
            subprocess.run(argv, cwd=folder, env=environ, check=True, capture_output=True, stdin=-3)
            if round_number:
                taken[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(values) for name, values in taken.items()}


def report(medians: dict[str, float]) -> None:
    for name, milliseconds in medians.items():
        print(f"{name:38} {milliseconds:7.0f} ms")
    run, dead = medians["inv run"], medians["inv run, first route dead and known"]
    first = medians["inv run, first route dead, first try"]
    listing = medians["inv --list"] - medians["inv --list, empty tasks.py"]
    print(f"\ninv run / fab                          {run / medians['fab']:7.2f}   (at most 0.65)")
    print(f"inv run / ssh                          {run / medians['ssh']:7.2f}   (at most 1)")
    print(f"inv --list over an empty tasks.py      {listing:7.0f} ms (at most 30)")
    print(f"dead first route, first try            {first - run:+7.0f} ms (at most 400)")
    print(f"dead first route, once health knows    {dead / run:7.2f}   (at most 1.15)")


if __name__ == "__main__":
    main()
