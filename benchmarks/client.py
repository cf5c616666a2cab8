"""Time of a command inside a program: connections open, one sshd on loopback, in turn.

    python benchmarks/client.py [--rounds 40] [--old DIR]

ringtasks, Fabric and AsyncSSH each run ``echo`` over a connection that is open, each opens new
connections, and ringtasks and AsyncSSH run 100 commands at once over one.  The three take turns,
round by round, so that a machine that grows slower does so for all.  Read the ratios: the
milliseconds are this machine's.

``--old DIR`` is a checkout of another commit with a virtual environment of its own (``DIR/.venv``).
A process of each then does what ringtasks does above, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh
import fabric

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.sides import OLD, compared  # noqa: E402
from ringtasks import Connection, SSHClient, SSHConfig  # noqa: E402  # needs the path above
from tests.support.sshd import Sshd, make_key  # noqa: E402

COMMAND = "echo hi"
AT_ONCE = 100

Action = Callable[[], Awaitable[object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="counted rounds (default 40)")
    parser.add_argument("--old", type=Path, help="a checkout of another commit, with its .venv")
    given = parser.parse_args()
    rounds = given.rounds
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as name:
        os.environ.update(HOME=name, XDG_STATE_HOME=f"{name}/state")
        key = make_key(Path(name) / "key")
        with Sshd(key, config=["MaxSessions 500"]) as sshd:
            if given.old:
                alternate(given.old, Path(name), sshd, key, rounds)
            else:
                asyncio.run(measure(sshd, key, rounds))


#: One side: reads the name of an action from each line of stdin, and prints its milliseconds.
WORKER = """
import asyncio, sys, time
from ringtasks import Connection, SSHClient, SSHConfig
address, port, user, key = sys.argv[1:]
config = SSHConfig(address, int(port), user, key, use_control_master=False)
client = SSHClient(config)

def opening():
    with Connection(config) as opened:
        opened.open()

async def at_once():
    await asyncio.gather(*(client.run_async("echo hi") for _ in range(100)))

actions = {"command": lambda: client.run("echo hi"), "open": opening,
           "at once": lambda: asyncio.run(at_once())}
for line in sys.stdin:
    started = time.perf_counter()
    actions[line.strip()]()
    print((time.perf_counter() - started) * 1000, flush=True)
"""


def alternate(old: Path, folder: Path, sshd: Sshd, key: Path, rounds: int) -> None:
    """Print what a command, a connection and 100 commands cost in the two checkouts."""
    programs = {"": Path(sys.executable), OLD: old.absolute() / ".venv" / "bin" / "python"}
    place = (sshd.address, str(sshd.port), sshd.user, str(key))
    workers = {
        suffix: subprocess.Popen(
            [program, "-c", WORKER, *place],
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": f"{folder}/state{suffix.strip()}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for suffix, program in programs.items()
    }
    taken: dict[str, list[float]] = {}
    few = max(5, rounds // 4)
    for action, count in (("command", rounds), ("open", few), ("at once", few)):
        for number in range(count + 1):
            for suffix, worker in workers.items():
                milliseconds = asked(worker, action)
                if number:
                    taken.setdefault(f"{action}{suffix}", []).append(milliseconds)
    for worker in workers.values():
        worker.communicate()
    for line in compared(taken):
        print(line)


def asked(worker: subprocess.Popen[str], action: str) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{action}\n")
    return float(worker.stdout.readline())


async def measure(sshd: Sshd, key: Path, rounds: int) -> None:
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(key), use_control_master=False)
    client = SSHClient(config)
    login = {"username": sshd.user, "client_keys": [str(key)], "known_hosts": None}
    plain = fabric_connection(sshd, key)
    async with asyncssh.connect(sshd.address, sshd.port, **login) as connection:

        async def ours() -> object:
            return client.run(COMMAND)

        async def fabrics() -> object:
            return plain.run(COMMAND, hide=True, in_stream=False)

        async def ours_at_once() -> object:
            return await asyncio.gather(*(client.run_async(COMMAND) for _ in range(AT_ONCE)))

        async def asyncsshs_at_once() -> object:
            return await asyncio.gather(*(connection.run(COMMAND) for _ in range(AT_ONCE)))

        async def ours_open() -> None:
            with Connection(config) as opened:
                opened.open()

        async def fabrics_open() -> None:
            with fabric_connection(sshd, key) as opened:
                opened.open()

        one = await in_turn(
            rounds, ours=ours, fabric=fabrics, asyncssh=lambda: connection.run(COMMAND)
        )
        opening = await in_turn(max(5, rounds // 4), ours=ours_open, fabric=fabrics_open)
        many = await in_turn(max(5, rounds // 4), ours=ours_at_once, asyncssh=asyncsshs_at_once)
    client.close_link()
    plain.close()
    report("one command", one)
    report("opening a connection", opening)
    report(f"{AT_ONCE} commands at once", many)


def fabric_connection(sshd: Sshd, key: Path) -> fabric.Connection:
    return fabric.Connection(
        sshd.address, user=sshd.user, port=sshd.port, connect_kwargs={"key_filename": str(key)}
    )


async def in_turn(rounds: int, **actions: Action) -> dict[str, float]:
    """Medians in milliseconds; the first round is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            await action()
            taken[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def report(title: str, medians: dict[str, float]) -> None:
    print(title)
    for name, median in medians.items():
        ratio = "" if name == "ours" else f"   ringtasks / {name}: {medians['ours'] / median:.2f}"
        print(f"  {name:10} {median:7.1f} ms{ratio}")


if __name__ == "__main__":
    main()
