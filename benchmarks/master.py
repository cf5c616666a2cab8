"""Commands and files over one control master, beside OpenSSH's own programs over the same one.

    python benchmarks/master.py [--rounds 5] [--mebibytes 256]

`SSHClient.scp_to` and `scp_from` against scp, to a new file and over one that is there, and a
command of a client in this process against a process of ``ssh -S``; in turn, round by round, on
loopback.  Read the ratios of the medians.  To replace a file in one step costs more than to write
into it, as scp does: ext4 begins to write all of it to the disk (mount option auto_da_alloc).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ringtasks import SSHClient, SSHConfig  # noqa: E402  # needs the path above
from ringtasks.ssh.master import running_masters  # noqa: E402
from tests.support.sshd import Sshd, make_key  # noqa: E402

MEBIBYTE = 1 << 20
COMMANDS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=256)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as name:
        folder = Path(name)
        for variable in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            os.environ[variable] = name
        key = make_key(folder / "key")
        with Sshd(key) as sshd:
            config = SSHConfig(sshd.address, sshd.port, sshd.user, str(key), name="box")
            try:
                with SSHClient(config) as client:
                    compare(client, folder, given.rounds, given.mebibytes)
            finally:
                for kept in running_masters.listing():
                    running_masters.retire(kept.master)


def compare(client: SSHClient, folder: Path, rounds: int, mebibytes: int) -> None:
    large, there, back = folder / "large", folder / "there", folder / "back"
    with large.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MEBIBYTE))
    assert client.run("true")
    (kept,) = running_masters.listing()
    socket = f"ControlPath={kept.master.socket}"

    def scp(*places: str) -> None:
        subprocess.run(["scp", "-q", "-o", socket, *places], check=True)

    def ssh() -> None:
        argv = ["ssh", "-o", socket, "box", "true"]
        for _ in range(COMMANDS):
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)

    def run() -> None:
        for _ in range(COMMANDS):
            assert client.run("true")

    def put_both(name: str, new: Path | None) -> None:
        ours, theirs = lambda: put(client, large, there), lambda: scp(str(large), f"box:{there}")
        report(name, rounds, ours, theirs, new=new)

    def get_both(name: str, new: Path | None) -> None:
        ours, theirs = lambda: get(client, there, back), lambda: scp(f"box:{there}", str(back))
        report(name, rounds, ours, theirs, new=new)

    put_both("put", there)
    get_both("get", back)
    put_both("put over", None)
    get_both("get over", None)
    report(f"{COMMANDS} commands", rounds, run, ssh, peer="ssh -S")


def put(client: SSHClient, source: Path, target: Path) -> None:
    result = client.scp_to(source, str(target))
    assert result, result.error


def get(client: SSHClient, source: Path, target: Path) -> None:
    result = client.scp_from(str(source), target)
    assert result, result.error


def report(
    name: str,
    rounds: int,
    ours: Callable[[], None],
    theirs: Callable[[], None],
    peer: str = "scp",
    new: Path | None = None,
) -> None:
    taken: tuple[list[float], list[float]] = ([], [])
    for round_number in range(rounds + 1):
        for seconds, action in zip(taken, (ours, theirs), strict=True):
            if new is not None:  # to replace a file costs whatever its file system makes of it
                new.unlink(missing_ok=True)
            started = time.perf_counter()
            action()
            if round_number:
                seconds.append(time.perf_counter() - started)
    own, other = (statistics.median(seconds) for seconds in taken)
    print(f"{name:12} {own:7.3f} s   {peer} {other:7.3f} s   ratio {own / other:5.2f}")


if __name__ == "__main__":
    main()
