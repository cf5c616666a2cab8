"""Time of moving files, beside the plain tools: one sshd on loopback, in turn.

    python benchmarks/transfer.py [--rounds 3] [--mebibytes 1024] [--files 20000]

``inv sync`` of a tree of small files and of one large file, first and unchanged, against rsync over
ssh; ``inv put`` and ``inv get`` of a file against scp; each as a command of its own, from its start
to its end.  The two take turns, round by round.  Read the ratios of the medians: the seconds are
this machine's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ringtasks.ssh.master import processes  # noqa: E402  # needs the path above
from tests.support.sshd import Sshd, make_key  # noqa: E402

MEBIBYTE = 1 << 20
BYTES_A_FILE = 2000
FILES_A_FOLDER = 100


class Lab(NamedTuple):
    folder: Path
    sshd: Sshd
    key: Path

    @property
    def far(self) -> Path:
        return self.folder / "far"

    @property
    def ssh(self) -> list[str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        return [word for option in options for word in ("-o", option)] + ["-i", str(self.key)]

    def inv(self, *arguments: str) -> None:
        self.run(sys.executable, "-m", "invoke", *arguments, "--host", "box")

    def rsync(self, source: Path, target: Path) -> None:
        shell = " ".join(["ssh", "-p", str(self.sshd.port), *self.ssh])
        self.run("rsync", "-a", "-e", shell, f"{source}/", f"{self._host}:{target}/")

    def scp(self, *places: str) -> None:
        self.run("scp", "-q", "-P", str(self.sshd.port), *self.ssh, *places)

    @property
    def _host(self) -> str:
        return f"{self.sshd.user}@{self.sshd.address}"

    def there(self, path: Path) -> str:
        return f"{self._host}:{path}"

    def run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def forget(self) -> None:
        """Each command begins without a control master."""
        for pid, _ in processes.masters_in(self.folder / "ringtasks"):
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    parser.add_argument("--mebibytes", type=int, default=1024, help="the file (default 1024)")
    parser.add_argument("--files", type=int, default=20_000, help="small files (default 20000)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as name:
        folder = Path(name)
        os.environ.update(HOME=name, XDG_STATE_HOME=f"{name}/state", XDG_RUNTIME_DIR=name)
        os.environ["PYTHONPATH"] = str(ROOT)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have bytecode
        key = make_key(folder / "key")
        with Sshd(key) as sshd:
            lab = Lab(folder, sshd, key)
            prepare(lab)
            try:
                measure(lab, given.rounds, given.mebibytes, given.files)
            finally:
                lab.forget()


def prepare(lab: Lab) -> None:
    shutil.copy(ROOT / "tasks.py", lab.folder)
    lab.far.mkdir()
    (lab.folder / "hosts").mkdir()
    host = {
        "ssh_host": lab.sshd.address,
        "ssh_port": lab.sshd.port,
        "ssh_user": lab.sshd.user,
        "ssh_key": str(lab.key),
        "work_dir": str(lab.far),
    }
    (lab.folder / "hosts" / "hosts.yaml").write_text(yaml.safe_dump({"hosts": {"box": host}}))


def measure(lab: Lab, rounds: int, mebibytes: int, files: int) -> None:
    small = make_tree(lab.folder / "small", files)
    compare_sync(lab, f"sync of {files} small files", small, rounds)
    shutil.rmtree(small)
    large = lab.folder / "large"
    large.mkdir()
    write_random(large / "file", 2 * mebibytes)
    compare_sync(lab, f"sync of a file of {2 * mebibytes} MiB", large, rounds)
    shutil.rmtree(large)
    write_random(lab.folder / "file", mebibytes)
    compare_file(lab, mebibytes, rounds)


def compare_sync(lab: Lab, name: str, source: Path, rounds: int) -> None:
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for who, run in in_turn(
            number,
            ours=lambda: lab.inv("sync", str(source), str(lab.far / "ours")),
            plain=lambda: lab.rsync(source, lab.far / "plain"),
        ):
            shutil.rmtree(lab.far / who, ignore_errors=True)
            lab.forget()
            first = timed(run)
            again = timed(run)
            if number:  # the first round warms the caches
                times.setdefault(f"{who} first", []).append(first)
                times.setdefault(f"{who} unchanged", []).append(again)
    for when in ("first", "unchanged"):
        tell(f"{name}, {when}", times[f"ours {when}"], times[f"plain {when}"], "rsync")
    for who in ("ours", "plain"):
        shutil.rmtree(lab.far / who)


def compare_file(lab: Lab, mebibytes: int, rounds: int) -> None:
    here, there = lab.folder / "file", lab.far / "file"
    ways = {
        "put": {
            "ours": lambda: lab.inv("put", "file", str(there)),
            "plain": lambda: lab.scp(str(here), lab.there(there)),
        },
        "get": {
            "ours": lambda: lab.inv("get", str(there), "back"),
            "plain": lambda: lab.scp(lab.there(there), "back"),
        },
    }
    for way, both in ways.items():
        target = there if way == "put" else lab.folder / "back"
        times: dict[str, list[float]] = {"ours": [], "plain": []}
        for number in range(rounds + 1):
            for who, run in in_turn(number, **both):
                target.unlink(missing_ok=True)
                lab.forget()
                taken = timed(run)
                if number:
                    times[who].append(taken)
        tell(f"{way} of {mebibytes} MiB", times["ours"], times["plain"], "scp")


def in_turn(number: int, **runs: Callable[[], None]) -> list[tuple[str, Callable[[], None]]]:
    """Rotate the order: the first is last in the next round."""
    listed = list(runs.items())
    return listed if number % 2 else listed[::-1]


def timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def tell(name: str, ours: list[float], plain: list[float], peer: str) -> None:
    mine, theirs = statistics.median(ours), statistics.median(plain)
    print(f"{name}: {mine:.2f} s, {peer} {theirs:.2f} s: {mine / theirs:.2f} x", flush=True)


def make_tree(top: Path, files: int) -> Path:
    for number in range(files):
        folder = top / f"d{number // FILES_A_FOLDER}"
        if number % FILES_A_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"f{number}.py").write_bytes(os.urandom(BYTES_A_FILE))
    return top


def write_random(path: Path, mebibytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MEBIBYTE))


if __name__ == "__main__":
    main()
