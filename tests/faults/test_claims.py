"""Whatever fails, no task claims what is not true: tasks and faults are chosen by a random seed.

``--seeds N`` runs more; ``--first-seed S`` repeats a failure.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from tests.support.claims import CASES, Case, Result
from tests.support.faulty import Wire
from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.jobs import end_jobs
from tests.support.sshd import Sshd

#: Tools of the host of which one fails.
TOOLS = ("awk", "grep", "mkdir", "mv", "sed", "sha256sum", "tail", "dd", "cat", "ln", "date")

FAULTS = (
    "none", "link cut", "link cut", "peer stops", "killed here", "remote shell killed",
    "forced command", "noisy login", "tool fails", "disk full",
)  # fmt: skip

_NOISY = """\
#!/bin/sh
echo 'Welcome! ringtasks:0:0:1'
echo 'You have mail.' >&2
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


class Hosts:
    """Hosts with one home, each with another fault; "plain" has a wire in front that can be cut."""

    def __init__(self, make_sshd: MakeSshd, folder: Path, key: Path) -> None:
        self.plain = make_sshd()
        self.home, self._make, self._folder = self.plain.home, make_sshd, folder
        self.wire = Wire(self.plain.address, self.plain.port)
        (folder / "noisy").write_text(_NOISY)
        (folder / "noisy").chmod(0o755)
        self._made: dict[str, Sshd] = {}
        own = SSHConfig(self.plain.address, self.plain.port, self.plain.user, str(key), name="own")
        self.client = SSHClient(own)

    def server(self, kind: str) -> Sshd:
        if kind not in self._made:
            options = {
                "forced command": {"config": ["ForceCommand echo Please login as ubuntu"]},
                "noisy login": {"config": [f"ForceCommand {self._folder / 'noisy'}"]},
            }.get(kind) or {"environ": {"PATH": f"{self._broken(kind)}:{os.environ['PATH']}"}}
            environ = {**options.get("environ", {}), "HOME": str(self.home)}  # type: ignore[dict-item]  # each has its own keys
            self._made[kind] = self._make(environ=environ, config=options.get("config", []))
        return self._made[kind]

    def _broken(self, tool: str) -> Path:
        folder = self._folder / f"without-{tool}"
        folder.mkdir()
        (folder / tool).write_text("#!/bin/sh\nexit 1\n")
        (folder / tool).chmod(0o755)
        return folder

    def renew_wire(self) -> None:
        """Make a wire on which no fault waits to happen."""
        self.wire.close()
        self.wire = Wire(self.plain.address, self.plain.port)

    def clear(self) -> None:
        end_jobs(self.home)
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def close(self) -> None:
        self.client.close_link()
        self.wire.close()


@pytest.fixture
def hosts(make_sshd: MakeSshd, tmp_path: Path, client_key: Path) -> Iterator[Hosts]:
    made = Hosts(make_sshd, tmp_path, client_key)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", made.home], check=True)
    yield made
    made.clear()
    made.close()
    subprocess.run(["umount", "-l", made.home], check=True)


class Matrix:
    """Runs one seed after the other."""

    def __init__(self, hosts: Hosts, inv: Inv, write_hosts: WriteHosts, folder: Path) -> None:
        self._hosts, self._inv, self._write_hosts = hosts, inv, write_hosts
        self._near = folder / "near"

    def false_claims(self, seed: int) -> tuple[str, list[str]]:
        """Return the name of the seed's case, and its false claims."""
        chance = random.Random(seed)
        task, fault = chance.choice(list(CASES)), chance.choice(FAULTS)
        use_control_master = chance.random() < 0.6
        self._hosts.clear()
        self._hosts.renew_wire()
        shutil.rmtree(self._near, ignore_errors=True)
        self._near.mkdir()
        case = CASES[task](self._hosts.home, self._near, self._hosts.client, chance)
        self._reach(fault, chance, use_control_master)
        with self._injected(fault, chance):
            result = self._result(case, fault, chance)
        found = case.false_claims(result)
        status = "killed" if result is None else result.returncode
        link = "master" if use_control_master else "in process"
        return f"{task} / {fault} / {link}: {status}", found

    def _reach(self, fault: str, chance: random.Random, use_control_master: bool) -> None:
        kind = {"tool fails": chance.choice(TOOLS)}.get(fault, fault)
        is_plain = fault not in ("forced command", "noisy login", "tool fails")
        place = self._hosts.wire if is_plain else self._hosts.server(kind)
        key = self._hosts.plain.host_public_key if is_plain else None
        self._write_hosts(
            box={
                "ssh_host": place.address,
                "ssh_port": place.port,
                "use_control_master": use_control_master,
                "ssh_host_key": key or self._hosts.server(kind).host_public_key,
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
            wire.freeze_after(chance.randrange(4_000, 16_000))
            threads.append(threading.Thread(target=self._thaw, args=(ended,)))
        elif fault == "remote shell killed":
            delay = chance.uniform(0.1, 1.0)
            threads.append(threading.Thread(target=self._kill_a_shell, args=(ended, delay)))
        elif fault == "disk full":
            self._fill(chance.randrange(0, 16) * 4096)
        for thread in threads:
            thread.start()
        yield
        ended.set()
        wire.thaw()
        for thread in threads:
            thread.join()
        (self._hosts.home / "filler").unlink(missing_ok=True)

    def _thaw(self, ended: threading.Event) -> None:
        ended.wait(6)
        self._hosts.wire.thaw()

    def _kill_a_shell(self, ended: threading.Event, delay: float) -> None:
        if ended.wait(delay):
            return
        mark = f"HOME={self._hosts.home}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_shell = (place / "comm").read_text().strip() in ("sh", "dash", "bash")
                if is_shell and mark in (place / "environ").read_bytes():
                    os.kill(int(place.name), signal.SIGKILL)
                    return

    def _fill(self, left: int) -> None:
        disk = os.statvfs(self._hosts.home)
        with (self._hosts.home / "filler").open("wb") as file:
            file.write(b"x" * max(0, disk.f_bavail * disk.f_bsize - left))

    def _result(self, case: Case, fault: str, chance: random.Random) -> Result | None:
        timeout = chance.uniform(0.05, 1.2) if fault == "killed here" else 60.0
        try:
            return self._inv(*case.arguments("box"), timeout=timeout)
        except subprocess.TimeoutExpired:
            assert fault == "killed here", f"it did not end within {timeout:g} s"
            return None


def test_no_task_makes_a_false_claim_under_faults(
    hosts: Hosts, inv: Inv, write_hosts: WriteHosts, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = request.config.getoption("--seeds")
    first = request.config.getoption("--first-seed")
    first = random.SystemRandom().randrange(10**6) if first is None else first
    print(f"--first-seed {first} --seeds {count}")
    matrix = Matrix(hosts, inv, write_hosts, tmp_path)
    outcomes: collections.Counter[str] = collections.Counter()
    false: list[str] = []
    began = time.monotonic()

    for seed in range(first, first + count):
        name, found = matrix.false_claims(seed)
        outcomes[name] += 1
        false += [f"--first-seed {seed} --seeds 1: {name}: {claim}" for claim in found]

    for name, times in sorted(outcomes.items()):
        print(f"{times:5} {name}")
    print(f"{count} seeds in {time.monotonic() - began:.0f} s")
    assert not false, "\n".join(false)
