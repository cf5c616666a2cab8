"""Time of a command from the shell's prompt: whole processes, on loopback, in turn.

    python benchmarks/latency.py [--runs 21] [--old DIR] [--hosts 200] [--only all]

Every tool runs ``hostname`` as the same user on the same sshd, one after the other, round by round,
so that a machine that grows slower does so for all; the first round is not counted.  "Warm" goes
over a control master that is there, "cold" makes one first.  Part of it is said once more for a
line of 50 ms one way.  Read the ratios: the milliseconds are this machine's.

``--old DIR`` is a checkout of another commit with a virtual environment of its own (``DIR/.venv``):
its ``inv`` takes turns with this one, with state and masters of its own.

The part ``config`` has a ``~/.ssh/config`` of 50 ``Host`` blocks, which ``ssh -G`` is asked about:
with its answers kept from the run before, and without.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.sides import Side, compared, side_of  # noqa: E402
from tests.support.faulty import Blackhole, Wire  # noqa: E402  # needs the path above
from tests.support.sshd import Sshd, make_key  # noqa: E402

BIN = Path(sys.executable).parent
INV = str(BIN / "inv")
EMPTY_TASKS = "from invoke import task\n\n@task\ndef nothing(c):\n    pass\n"
LINE_DELAY = 0.05  # seconds, one way


CONFIG = "".join(
    f"Host box{n}\n  HostName 192.0.2.{n}\n  User gpu\n  IdentityFile ~/.ssh/key{n}\n"
    for n in range(50)
)
#: OpenSSH has to be asked if the files say something about host keys.
CONFIG_FOR_ALL = "Host *\n  StrictHostKeyChecking accept-new\n"


class Case(NamedTuple):
    """A command to time, and one to run before it each time, which is not timed."""

    argv: list[str]
    before: list[str] | None = None
    environ: dict[str, str] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=21, help="counted rounds (default 21)")
    parser.add_argument("--old", type=Path, help="a checkout of another commit, with its .venv")
    parser.add_argument("--hosts", type=int, default=200, help="hosts of the config part")
    parser.add_argument("--only", default="near,line,config", help="the parts (default: all)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rt-bench-") as name, Blackhole() as blackhole:
        folder = Path(name)
        key = make_key(folder / "key")
        # A login shell that reads no rc files of the real user: the same cost for everybody.
        everywhere = Sshd(key, addresses=["0.0.0.0"])  # all of 127.0.0.0/8
        everywhere.address = "127.0.0.1"
        with everywhere as sshd, Wire(sshd.address, sshd.port, delay=LINE_DELAY) as line:
            environ = prepare(folder, sshd, key, blackhole, line, given.hosts)
            old = side_of(given.old, folder, environ) if given.old else None
            try:
                run_parts(given, folder, environ, old, (sshd, line, key))
            finally:
                end(INV, folder, environ)
                if old is not None:
                    end(old.inv, folder, old.environ)


def end(inv: str, folder: Path, environ: dict[str, str]) -> None:
    subprocess.run([inv, "disconnect"], cwd=folder, env=environ, check=False)


def run_parts(
    given: argparse.Namespace,
    folder: Path,
    environ: dict[str, str],
    old: Side | None,
    place: tuple[Sshd, Wire, Path],
) -> None:
    sshd, line, key = place
    if "near" in given.only:
        near = cases(folder, sshd.port, sshd, key) | more_cases(folder)
        report(measure(beside(near, old), folder, environ, given.runs))
    if "line" in given.only:
        far = cases(folder, line.port, sshd, key)
        slow = {name: case for name, case in far.items() if "Invoke" not in name}
        report_line(measure(beside(slow, old), folder, environ, max(3, given.runs // 4)))
    if "config" in given.only:
        report_config(measure(configured(folder, sshd, environ), folder, environ, given.runs))
        few = max(2, given.runs // 7)
        report_hosts(measure(cold_hosts(folder, environ), folder, environ, few))


def beside(cases: dict[str, Case], old: Side | None) -> dict[str, Case]:
    """Return the cases, each of ``inv`` followed by the same of the old side."""
    found: dict[str, Case] = {}
    for name, case in cases.items():
        found[name] = case
        if old is not None and case.argv[0] == INV:
            before = case.before and [old.inv, *case.before[1:]]
            found[f"{name} (old)"] = Case([old.inv, *case.argv[1:]], before, old.environ)
    return found


def configured(folder: Path, sshd: Sshd, environ: dict[str, str]) -> dict[str, Case]:
    """Return the cases of a command over a master, with and without settings of ssh."""
    with_config = environ | {"HOME": str(folder / "configured")}
    warm = [INV, "run", "--host", f"kept-{sshd.port}", "--cmd", "hostname"]
    return {
        "empty Invoke task": Case([INV, "-r", str(folder / "empty"), "nothing"]),
        "warm, no config": Case(warm),
        "warm, from the cache": Case(warm, environ=with_config),
        "warm, on a miss": Case(warm, forget(folder), with_config),
        "warm, for the first time": Case(warm, forget_all(folder), with_config),
    }


def cold_hosts(folder: Path, environ: dict[str, str]) -> dict[str, Case]:
    """Return the cases of a log-in to many hosts, in process."""
    with_config = environ | {"HOME": str(folder / "configured")}
    many = [INV, "run", "--inventory", str(folder / "many.yaml"), "--host", "@all",
            "--fanout", "64", "--cmd", "hostname"]  # fmt: skip
    return {
        "hosts, no config": Case(many),
        "hosts, from the cache": Case(many, environ=with_config),
        "hosts, on a miss": Case(many, forget(folder), with_config),
    }


def forget(folder: Path) -> list[str]:
    """Return the command that removes the answers kept from ``ssh -G``, but for ssh's defaults."""
    kept = folder / "state" / "ringtasks" / "ssh-settings"
    of_hosts = """grep -LZ '"question": \\[""' "$0"/* | xargs -0 -r rm"""
    return ["sh", "-c", of_hosts, str(kept)]


def forget_all(folder: Path) -> list[str]:
    """Return the command that removes all answers, as on a new machine."""
    return ["rm", "-rf", str(folder / "state" / "ringtasks" / "ssh-settings")]


def prepare(
    folder: Path, sshd: Sshd, key: Path, blackhole: Blackhole, line: Wire, count: int
) -> dict[str, str]:
    common = f"ssh_host: {sshd.address}, ssh_user: {sshd.user}, ssh_key: {key}"
    alone = f"{common}, ssh_port: {sshd.port}, use_control_master: false"
    hole = f"tailscale_ip: {blackhole.address}, tailscale_port: {blackhole.port}"
    hosts = {
        **{f"kept-{port}": f"{common}, ssh_port: {port}" for port in (sshd.port, line.port)},
        **{f"cold-{port}": f"{common}, ssh_port: {port}" for port in (sshd.port, line.port)},
        f"alone-{line.port}": f"{common}, ssh_port: {line.port}, use_control_master: false",
        f"alone-{sshd.port}": alone,
        "hole": f"{alone}, {hole}",
        "new": f"{alone}, {hole}",
    }
    (folder / "hosts").mkdir()
    lines = [f"{name}: {{{fields}}}\n" for name, fields in hosts.items()]
    (folder / "hosts" / "bench.yaml").write_text("".join(lines))
    (folder / "tasks.py").write_text((ROOT / "tasks.py").read_text())
    (folder / "empty").mkdir()
    (folder / "empty" / "tasks.py").write_text(EMPTY_TASKS)
    (folder / "run").mkdir(mode=0o700)
    (folder / "configured" / ".ssh").mkdir(parents=True, mode=0o700)
    (folder / "configured" / ".ssh" / "config").write_text(CONFIG + CONFIG_FOR_ALL)
    own = f"ssh_user: {sshd.user}, ssh_key: {key}, use_control_master: false"
    many = [
        f"h{n}: {{ssh_host: 127.0.{n // 250 + 1}.{n % 250 + 1}, ssh_port: {sshd.port}, {own}}}\n"
        for n in range(count)
    ]
    (folder / "many.yaml").write_text("".join(many))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RING")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as users have it
    environ.update(
        HOME=str(folder),
        XDG_STATE_HOME=str(folder / "state"),
        XDG_RUNTIME_DIR=str(folder / "run"),
        ANSIBLE_HOST_KEY_CHECKING="False",
    )
    return environ


def cases(folder: Path, port: int, sshd: Sshd, key: Path) -> dict[str, Case]:
    at = f"{sshd.user}@{sshd.address}"
    trusting = ["-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "StrictHostKeyChecking=no"]
    ssh = ["ssh", "-F", "none", *trusting, "-i", str(key), "-p", str(port)]
    socket = str(folder / f"m{port}")
    shared = [*ssh, "-o", "ControlMaster=auto", "-S", socket, "-o", "ControlPersist=60", at]
    found = {
        "empty Invoke task": Case([INV, "-r", str(folder / "empty"), "nothing"]),
        "inv run, warm": Case([INV, "run", "--host", f"kept-{port}", "--cmd", "hostname"]),
        "inv run, cold": Case(
            [INV, "run", "--host", f"cold-{port}", "--cmd", "hostname"],
            before=[INV, "disconnect", "--host", f"cold-{port}"],
        ),
        "inv run, in process": Case([INV, "run", "--host", f"alone-{port}", "--cmd", "hostname"]),
        "fab": Case([str(BIN / "fab"), "-i", str(key), "-H", f"{at}:{port}", "--", "hostname"]),
        "ssh": Case([*ssh, at, "hostname"]),
        "ssh over a master": Case([*shared, "hostname"]),
    }
    ansible = shutil.which("ansible", path=f"{BIN}:{os.environ['PATH']}")
    if ansible is not None:
        options = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=no"
        found["ansible -m raw"] = Case(
            [
                *(ansible, "all", "-i", f"{sshd.address},", "-u", sshd.user, "-m", "raw"),
                *("-a", "hostname", "-e", f"ansible_port={port}", "--private-key", str(key)),
                f"--ssh-common-args={options}",
            ]
        )
    return found


def more_cases(folder: Path) -> dict[str, Case]:
    named = f"RINGTASKS_HOSTS={folder / 'many.yaml'}"
    completion = [
        sys.executable,
        "-m",
        "ringtasks.output.candidates",
        "ringtasks run --host h19",
    ]
    return {
        "completion": Case(["env", named, *completion]),
        "inv --list, empty tasks.py": Case([INV, "-r", str(folder / "empty"), "--list"]),
        "inv --list": Case([INV, "--list"]),
        "first route dead and known": Case([INV, "run", "--host", "hole", "--cmd", "hostname"]),
        "first route dead, first try": Case(
            [INV, "run", "--host", "new", "--cmd", "hostname"],
            before=[INV, "health.reset", "--host", "new"],
        ),
    }


def measure(
    cases: dict[str, Case], folder: Path, environ: dict[str, str], runs: int
) -> dict[str, float]:
    """The median of each in milliseconds; those of old and new are compared."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for round_number in range(runs + 1):
        for name, case in cases.items():
            if case.before is not None:
                subprocess.run(
                    case.before,
                    cwd=folder,
                    env=case.environ or environ,
                    check=True,
                    capture_output=True,
                )
            milliseconds = timed(case.argv, folder, case.environ or environ)
            if round_number:
                taken[name].append(milliseconds)
    for line in compared(taken):
        print(line)
    return {name: statistics.median(values) for name, values in taken.items()}


def timed(argv: list[str], folder: Path, environ: dict[str, str]) -> float:
    started = time.perf_counter()
    # Not a pipe: a master that ssh leaves behind would hold it open.
    with (folder / "output").open("wb") as output:
        subprocess.run(
            argv, cwd=folder, env=environ, check=True, stdin=-3, stdout=output, stderr=output
        )
    return (time.perf_counter() - started) * 1000


def report(medians: dict[str, float]) -> None:
    show(medians)
    warm, cold, alone = (medians[f"inv run, {kind}"] for kind in ("warm", "cold", "in process"))
    fab, ssh, empty = medians["fab"], medians["ssh"], medians["empty Invoke task"]
    dead, first = medians["first route dead and known"], medians["first route dead, first try"]
    listing = medians["inv --list"] - medians["inv --list, empty tasks.py"]
    print(f"\nwarm - empty task                      {warm - empty:+7.0f} ms (at most 25)")
    print(f"warm / fab                             {warm / fab:7.2f}   (at most 0.4)")
    print(f"cold / fab                             {cold / fab:7.2f}   (at most 0.8)")
    print(f"in process / fab                       {alone / fab:7.2f}   (at most 0.65)")
    print(f"in process / ssh                       {alone / ssh:7.2f}   (at most 1)")
    print(f"inv --list over an empty tasks.py      {listing:+7.0f} ms (at most 30)")
    print(f"completion of hosts                    {medians['completion']:7.0f} ms (at most 100)")
    print(f"dead first route, first try            {first - alone:+7.0f} ms (at most 400)")
    print(f"dead first route, once health knows    {dead / alone:7.2f}   (at most 1.15)")


def report_config(medians: dict[str, float]) -> None:
    print("\nWith a ~/.ssh/config of 50 Host blocks:\n")
    show(medians)
    empty = medians["empty Invoke task"]
    for name, most in (("from the cache", 20), ("on a miss", 28), ("for the first time", None)):
        over = medians[f"warm, {name}"] - empty
        limit = f" (at most {most})" if most else ""
        print(f"{name + ' - empty task':38} {over:+7.0f} ms{limit}")


def report_hosts(medians: dict[str, float]) -> None:
    print("\nCold, many hosts, in process:\n")
    show(medians)
    without = medians["hosts, no config"]
    for name, most in (("from the cache", 1.05), ("on a miss", 1.3)):
        ratio = medians[f"hosts, {name}"] / without
        print(f"{name + ' / no config':38} {ratio:7.2f}   (at most {most})")


def report_line(medians: dict[str, float]) -> None:
    print(f"\nOver a line of {LINE_DELAY * 1000:g} ms one way:\n")
    show(medians)
    for kind in ("warm", "cold", "in process"):
        ratio = medians[f"inv run, {kind}"] / medians["fab"]
        print(f"{kind + ' / fab':38} {ratio:7.2f}")


def show(medians: dict[str, float]) -> None:
    for name, milliseconds in medians.items():
        print(f"{name:38} {milliseconds:7.0f} ms")


if __name__ == "__main__":
    main()
