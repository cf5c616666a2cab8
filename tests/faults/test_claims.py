"""Whatever fails, no task claims what is not true: tasks and faults are chosen by a random seed.

``--seeds N`` runs more; ``--first-seed S`` repeats a failure.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.claims import Case, Result
from tests.support.fault_hosts import BROKEN, NOISE, FaultHosts, empty, fill
from tests.support.fixtures import Inv, MakeSshd, Start, WriteHosts
from tests.support.run_claims import ALL_CASES

#: Tools of the host of which one is broken.
TOOLS = (
    "awk", "cat", "chmod", "cmp", "cp", "cut", "date", "dd", "df", "env", "find", "flock", "grep",
    "head", "ln", "ls", "mkdir", "mktemp", "mv", "od", "ps", "readlink", "rm", "rsync", "sed",
    "setsid", "sha256sum", "sleep", "sort", "stat", "tail", "tar", "timeout", "touch", "tr",
    "uname", "wc", "xargs",
)  # fmt: skip

#: Faults of a server of its own.
OWN = (
    "forced command", "noisy login", "shared home", "fork fails", "read-only home",
    "no temporary folder", *BROKEN,
)  # fmt: skip
FAULTS = (
    "none", "link cut", "link cut", "peer stops", "links forgotten", "killed here",
    "interrupted here", "remote shell killed", "remote process killed", "host reboots", "disk full",
    "disk full here", "forked child", *OWN,
)  # fmt: skip

#: The user's tasks, in a process that forks meanwhile, as a data loader or a server does.
_TASKS = """\
import os, threading, time
from ringtasks.tasks import namespace

def fork(delays):
    for delay in delays:
        time.sleep(float(delay))
        if os.fork() == 0:
            os.closerange(0, 3)
            time.sleep(2)
            os._exit(0)

if "FORK_AFTER" in os.environ:
    threading.Thread(target=fork, args=[os.environ["FORK_AFTER"].split()], daemon=True).start()
"""


@pytest.fixture
def hosts(make_sshd: MakeSshd, tmp_path: Path, client_key: Path) -> Iterator[FaultHosts]:
    with contextlib.closing(FaultHosts(make_sshd, tmp_path, client_key)) as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder of this machine that can be filled."""
    folder = tmp_path / "near"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


class Matrix:
    """Runs one seed after the other."""

    #: Seconds within which each task has to end.
    limit = 60.0

    def __init__(
        self, hosts: FaultHosts, inv: Inv, start: Start, write_hosts: WriteHosts, near: Path
    ) -> None:
        self._hosts, self._inv, self._start, self._write_hosts = hosts, inv, start, write_hosts
        self._near, self._folder = near, near.parent
        (self._folder / "tasks.py").write_text(_TASKS)

    def false_claims(self, seed: int) -> tuple[str, list[str]]:
        """Return the name of the seed's case, and its false claims."""
        chance = random.Random(seed)
        task, fault = chance.choice(list(ALL_CASES)), chance.choice(FAULTS)
        use_control_master = chance.random() < 0.6
        self._hosts.clear()
        self._hosts.renew_wire()
        empty(self._near)
        case = ALL_CASES[task](self._hosts.home, self._near, self._hosts.client(fault), chance)
        (self._folder / "invoke.yaml").write_text(yaml.safe_dump(case.settings()))
        self._reach(fault, chance, use_control_master)
        found = []
        with self._injected(fault, chance):
            try:
                result: Result | None = self._result(case, fault, chance)
            except subprocess.TimeoutExpired as error:
                result = None
                if fault != "killed here":
                    found = [f"it did not end within {error.timeout:g} s"]
        found += case.false_claims(result)
        status = "killed" if result is None else result.returncode
        link = "master" if use_control_master else "in process"
        return f"{task} / {fault} / {link}: {status}", found

    def _reach(self, fault: str, chance: random.Random, use_control_master: bool) -> None:
        kind = "broken tool" if fault in BROKEN else fault
        place = self._hosts.server(kind) if fault in OWN else self._hosts.wire
        key = self._hosts.server(kind) if fault in OWN else self._hosts.plain
        self._write_hosts(
            box={
                "ssh_host": place.address,
                "ssh_port": place.port,
                "use_control_master": use_control_master,
                "ssh_host_key": key.host_public_key,
                "server_alive_interval": 1,
                "server_alive_count_max": 2,
            }
        )

    @contextlib.contextmanager
    def _injected(self, fault: str, chance: random.Random) -> Iterator[None]:
        wire, ended = self._hosts.wire, threading.Event()
        threads = []
        if fault == "link cut":
            wire.cut_after(chance.randrange(1, 20_000))
        elif fault == "peer stops":
            wire.freeze_after(chance.randrange(16_000))
            threads.append(threading.Thread(target=self._thaw, args=(ended,)))
        elif fault == "links forgotten":
            wire.drop_after(chance.randrange(16_000))
        elif fault in ("remote shell killed", "remote process killed", "host reboots"):
            args = (ended, chance.uniform(0.1, 1.0), fault)
            threads.append(threading.Thread(target=self._end_processes, args=args))
        elif fault in BROKEN:
            tool = "date" if fault == "clock jumps" else chance.choice(TOOLS)
            self._hosts.break_tool(tool, fault)
        elif fault == "noisy login":
            self._hosts.make_noise(chance.choice(NOISE))
        elif fault in ("disk full", "disk full here"):
            disk = self._hosts.home if fault == "disk full" else self._near
            fill(disk, chance.randrange(0, 16) * 4096)
        elif fault == "fork fails":
            self._hosts.allow_processes(chance.randrange(1, 12))
        for thread in threads:
            thread.start()
        yield
        ended.set()
        wire.thaw()
        for thread in threads:
            thread.join()
        for disk in (self._hosts.home, self._near):
            (disk / "filler").unlink(missing_ok=True)

    def _thaw(self, ended: threading.Event) -> None:
        ended.wait(6)
        self._hosts.wire.thaw()

    def _end_processes(self, ended: threading.Event, delay: float, fault: str) -> None:
        if ended.wait(delay):
            return
        if fault == "host reboots":
            self._hosts.reboot()
            return
        names = ("sh", "dash", "bash") if fault == "remote shell killed" else ()
        for pid in self._hosts.processes(*names)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _result(self, case: Case, fault: str, chance: random.Random) -> Result:
        timeout = chance.uniform(0.05, case.longest) if fault == "killed here" else self.limit
        environ = {}
        if fault == "disk full here":
            environ = {"XDG_STATE_HOME": str(self._near / "state"), "TMPDIR": str(self._near)}
        elif fault == "forked child":
            environ["FORK_AFTER"] = " ".join(f"{chance.uniform(0, 0.4):.3f}" for _ in range(3))
        if fault == "interrupted here":
            return self._interrupted(case, chance.uniform(0.05, case.longest))
        return self._inv(*case.arguments("box"), timeout=timeout, **environ)

    def _interrupted(self, case: Case, delay: float) -> Result:
        streams = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        arguments = case.arguments("box")
        program = self._start(*arguments, **streams)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(delay)
        program.send_signal(signal.SIGINT)
        stdout, stderr = program.communicate(timeout=self.limit)
        return subprocess.CompletedProcess(arguments, program.returncode, stdout, stderr)


def test_no_task_makes_a_false_claim_under_faults(
    hosts: FaultHosts,
    inv: Inv,
    start: Start,
    write_hosts: WriteHosts,
    small_disk: Path,
    request: pytest.FixtureRequest,
) -> None:
    count = request.config.getoption("--seeds")
    first = request.config.getoption("--first-seed")
    first = random.SystemRandom().randrange(10**6) if first is None else first
    print(f"--first-seed {first} --seeds {count}")
    matrix = Matrix(hosts, inv, start, write_hosts, small_disk)
    if count > 20:
        matrix.limit = 600.0  # a long run has the lowest priority
    outcomes: collections.Counter[str] = collections.Counter()
    false: list[str] = []
    began = time.monotonic()

    for seed in range(first, first + count):
        started = time.monotonic()
        name, found = matrix.false_claims(seed)
        outcomes[name] += 1
        print(f"seed {seed}: {name}, {time.monotonic() - started:.1f} s", flush=True)
        for claim in found:
            false.append(f"--first-seed {seed} --seeds 1: {name}: {claim}")
            print(false[-1], flush=True)

    for name, times in sorted(outcomes.items()):
        print(f"{times:5} {name}")
    print(f"{count} seeds in {time.monotonic() - began:.0f} s")
    assert not false, "\n".join(false)
