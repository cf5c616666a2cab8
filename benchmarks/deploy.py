"""Time of deploys: whole processes of ``inv deploy`` against rsync, and many hosts against one.

    python benchmarks/deploy.py [--files 20000] [--hosts 20] [--rounds 9]

One sshd on loopback stands for all hosts; masters stay alive between rounds, as they do between the
deploys of a day.  A new commit with unchanged files is deployed, and an unchanged tree is synced by
plain ``rsync -rlpt`` over plain ssh; they take turns, round by round.  The second application takes
a second to build (a wait, since the hosts share this machine); it is restarted, a URL is checked.
Read the ratios: the seconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.deploys import Fleet  # noqa: E402  # needs the path above
from tests.support.sshd import Sshd, make_key  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--files", type=int, default=20_000)
    options.add_argument("--hosts", type=int, default=20)
    options.add_argument("--rounds", type=int, default=9)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        os.environ.update(HOME=top, XDG_RUNTIME_DIR=top, XDG_STATE_HOME=f"{top}/state")
        os.environ["PYTHONPATH"] = str(ROOT)
        key = make_key(folder / "key")
        addresses = [f"127.0.0.{n}" for n in range(1, given.hosts + 1)]
        with Sshd(key, addresses=["0.0.0.0"], config=["MaxSessions 100"]) as server:
            fleet = _fleet(folder / "app", server, key, addresses)
            try:
                unchanged(fleet, server, key, given.files, given.rounds)
                given.hosts and fanout(fleet, given.hosts, given.rounds)
            finally:
                fleet.inv("disconnect")
                fleet.stop()


def unchanged(fleet: Fleet, server: Sshd, key: Path, files: int, rounds: int) -> None:
    """A deploy of unchanged files beside an unchanged rsync."""
    fleet.configure(restart=None, check=None, check_url=None, hosts="web1", keep=3)
    chance = random.Random(1)
    for n in range(files):
        fleet.write(f"tree/{n % 200}/{n}.py", chance.randbytes(1000).hex())
    size_bytes = files * 2000
    fleet.commit("v1")
    deployed(fleet)
    ssh = f"ssh -p {server.port} -i {shlex.quote(str(key))} -o StrictHostKeyChecking=no"
    ssh += " -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    plain = ["rsync", "-rlpt", "-e", ssh, f"{fleet.folder}/tree/"]
    plain.append(f"{server.user}@127.0.0.1:{fleet.folder}/srv/plain/")
    subprocess.run(plain, check=True)
    sent = []

    def again() -> None:
        sent.append(deployed(fleet)[0]["sent_bytes"])

    def prepare() -> None:
        fleet.commit("v1")

    compare(
        f"deploy of {files} unchanged files",
        lambda: subprocess.run(plain, check=True),
        again,
        rounds,
        "rsync",
        prepare,
    )
    print(f"sent: {max(sent) / size_bytes:.2%} of the tree")
    fleet.write("tree/0/0.py", "changed")
    fleet.commit("v2")
    print(f"one file changed: {deployed(fleet)[0]['sent_bytes'] / size_bytes:.2%} of the tree")


def fanout(fleet: Fleet, hosts: int, rounds: int) -> None:
    """A small application to all hosts beside the same to one."""
    fleet._git("rm", "-rq", "tree")
    fleet.configure(
        hosts="@all",
        restart="kill -HUP $(cat ../../shared/pid)",
        check_url="http://127.0.0.1:{port}/",
        build=["sleep 1"],
    )
    fleet.commit("v3")
    deployed(fleet)
    compare(
        f"deploy to {hosts} hosts",
        lambda: deployed(fleet, "--host", "web1"),
        lambda: deployed(fleet),
        rounds,
        "one host",
        lambda: fleet.commit("v3"),
    )


def deployed(fleet: Fleet, *arguments: str) -> list[dict[str, int]]:
    done = fleet.inv("deploy", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(
    what: str,
    base: Callable[[], object],
    action: Callable[[], object],
    rounds: int,
    name: str,
    prepare: Callable[[], object],
) -> None:
    times = []
    for _ in range(rounds + 1):
        prepare()
        first = timed(base)
        prepare()
        times.append((first, timed(action)))
    plain, ours = (statistics.median(column) for column in zip(*times[1:], strict=True))
    print(f"{what}: {ours:.2f} s, {name} {plain:.2f} s: {ours / plain:.2f} x")


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _fleet(folder: Path, server: Sshd, key: Path, addresses: list[str]) -> Fleet:
    folder.mkdir()
    (folder / "tasks.py").write_text((ROOT / "tasks.py").read_text())
    common = {"ssh_port": server.port, "ssh_user": server.user, "ssh_key": str(key)}
    return Fleet(
        folder,
        {f"web{n}": {"ssh_host": address, **common} for n, address in enumerate(addresses, 1)},
    )


if __name__ == "__main__":
    main()
