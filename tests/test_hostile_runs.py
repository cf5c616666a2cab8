"""Seeded runs of tasks on a host that changes its answers by chance.

Nothing but the target changes, and no task runs on beyond its limits, prints a traceback, or takes
more memory or disk than `MAX_RSS_KIB` and `MAX_DISK_BYTES`. ``RINGTASKS_TEST_SEED`` and
``RINGTASKS_TEST_RUNS`` choose the seeds of the long run, or ``--first-seed`` and ``--seeds``.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.fixtures import ROOT, MakeSshd, WriteHosts
from tests.support.hostile_rsync import HostileRsync
from tests.support.hostile_sftp import HostileTree, random_tree
from tests.support.hostile_shell import Answers, HostileShell
from tests.support.inv_program import Completed, InvProgram
from tests.support.jobs import end_jobs
from tests.support.watched import Watched

MAX_RSS_KIB = 300 * 1024
MAX_DISK_BYTES = 64 * 1024 * 1024
LIMIT = 120.0  # seconds; each has limits of its own, the longest are those of train
#: Read before the fixtures clear the environment.
FIRST = 5000 * int(os.environ.get("RINGTASKS_TEST_SEED", "1"))
RUNS = int(os.environ.get("RINGTASKS_TEST_RUNS", "5000"))
PULLS = (
    "get file into/ --timeout 5 --host evil",
    "get folder into/ --timeout 5 --host evil",
    "get f*l* into --timeout 5 --host evil",
    "sync folder into --pull --timeout 5 --host evil",
    "sync folder into --pull --delete --timeout 5 --host evil",
)
#: Training pulls a checkpoint and fetches files.
TASKS = (
    *PULLS,
    "train",
    "jobs --json",
    "status --json",
    "logs j --host evil",
    "wait j --timeout 2 --host evil",
    "stop j --host evil --grace 1",
    "start --name j --host evil --cmd true",
    "deploy.status --json",
    "deploy.check --json",
    "deploy",
)
#: One for each task. With 14 for the last, the host is never ready for a script (15 s).
USUAL_SEEDS = (*range(len(TASKS) - 1), 29)
#: Names of one length, which a hostile rsync may exchange.
RSYNC_NAMES = ("into-the-folder", "../../outside/f", "/etc/../../../x", "..////////////.")
SETTINGS = """\
deploy:
  hosts: evil
  path: ~/srv
  source: hosts
  keep: 2
  check: 'true'
  check_timeout: 5
  upload_timeout: 10
  build_timeout: 10
train:
  command: mkdir -p ck; echo 1 >ck/a; echo 2 >out.txt; echo 'step 1 loss 0.5'
  hosts: evil
  lost_after: 2
  checkpoint: ck
  checkpoint_interval: 0.3
  fetch: [out.txt, 'o*t.*']
  fetch_timeout: 10
  preflight: false
"""


@dataclass
class Evil:
    """One host, with all that may be hostile of it."""

    shell: HostileShell
    tree: HostileTree
    rsync: HostileRsync
    home: Path

    def act(self, seed: int, arguments: str) -> None:
        """Choose what lies in this run: the shell, or one of the programs that send files."""
        chance = random.Random(f"host {seed}")
        programs = arguments in PULLS and chance.random() < 0.7
        self.shell.answer(Answers() if programs else Answers(seed=seed))
        self.tree.tell(random_tree("folder", chance))
        own, *others = RSYNC_NAMES
        self.rsync.replace({own: chance.choice(others), "Real": chance.choice(("Link", "..//"))})


@dataclass
class Figures:
    """The largest seconds, KiB of memory and bytes on disk, the exit statuses, and the failures."""

    runs: int = 0
    seconds: float = 0.0
    seconds_by_task: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    rss_kib: int = 0
    disk_bytes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list, repr=False)

    def add(self, seed: int, arguments: str, done: Completed, took: float, disk_bytes: int) -> None:
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        self.runs += 1
        self.seconds_by_task[arguments] += took
        self.seconds = max(self.seconds, took)
        self.rss_kib = max(self.rss_kib, done.max_rss_kib)
        self.disk_bytes = max(self.disk_bytes, disk_bytes)
        self.statuses[done.returncode] += 1
        for what, is_wrong in {
            "a traceback": "Traceback" in said,
            f"{took:.0f} s": took > LIMIT,
            f"{done.max_rss_kib} KiB": done.max_rss_kib > MAX_RSS_KIB,
            f"{disk_bytes} bytes on disk": disk_bytes > MAX_DISK_BYTES,
            f"status {done.returncode}": done.returncode < 0,
        }.items():
            if is_wrong:
                self.failures.append(f"seed {seed}: {arguments}: {what}: {said[-3000:]}")


@pytest.fixture
def evil(make_sshd: MakeSshd, write_hosts: WriteHosts, tmp_path: Path) -> Iterator[Evil]:
    shell = HostileShell(tmp_path / "answers")
    rsync = HostileRsync(tmp_path / "programs")
    tree = HostileTree(tmp_path / "tree", Path("/"))
    server = make_sshd(
        config=shell.config,
        sftp=tree.subsystem,
        environ={"PATH": f"{rsync.folder}:{os.environ['PATH']}"},
    )
    home = server.home
    tree.root = home
    (home / "folder" / "Real").mkdir(parents=True)
    (home / "file").write_text("content")
    (home / "folder" / "Real" / "file").write_text("content")
    (home / "folder" / "Link").symlink_to(RSYNC_NAMES[0])
    write_hosts(
        evil={
            "ssh_port": server.port,
            "use_control_master": True,
            "command_timeout": 5,
            "connect_timeout": 5,
        }
    )
    yield Evil(shell, tree, rsync, home)
    end_jobs(home)


@pytest.fixture
def watched(tmp_path: Path, write_hosts: WriteHosts, evil: Evil) -> Watched:
    """The folder in which the tasks run; they may change ``into`` and ``runs``."""
    found = Watched(tmp_path / "watched", free=("into", "runs"))
    shutil.copy(ROOT / "tasks.py", found.target)
    shutil.copytree(tmp_path / "hosts", found.target / "hosts")
    (found.target / "invoke.yaml").write_text(SETTINGS)
    found.look()
    return found


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A ``PATH`` without rsync, so that SFTP is used."""
    folder = tmp_path / "no-rsync"
    folder.mkdir()
    for name in ("git", "ssh", "ssh-keygen", "sh", "tar", "ps"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def run_seed(
    seed: int, evil: Evil, watched: Watched, inv: InvProgram, programs: Path, found: Figures
) -> None:
    arguments = TASKS[seed % len(TASKS)]
    evil.act(seed, arguments)
    env = dict(os.environ)
    if arguments in PULLS and seed % 2:
        env["PATH"] = str(programs)
    (watched.target / "into").mkdir(exist_ok=True)
    began = time.monotonic()
    try:
        done = inv.run(arguments.split(), cwd=watched.target, env=env, timeout=1.5 * LIMIT)
    except subprocess.TimeoutExpired:
        found.failures.append(f"seed {seed}: {arguments}: did not end")
        return
    assert isinstance(done, Completed)
    written = [watched.target / "into", watched.target / "runs"]
    disk_bytes = sum(
        path.lstat().st_blocks * 512 for folder in written for path in folder.rglob("*")
    )
    found.add(seed, arguments, done, time.monotonic() - began, disk_bytes)
    for folder in written:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        watched.assert_untouched()
    except AssertionError as error:
        found.failures.append(f"seed {seed}: {arguments}: {error}")
        watched.look()
    if seed % 30 == 29:
        end_jobs(evil.home)
        shutil.rmtree(evil.home / ".ringtasks", ignore_errors=True)


@pytest.mark.parametrize("seeds", [USUAL_SEEDS[n : n + 5] for n in (0, 5, 10)], ids=str)
def test_seeded_runs_against_a_hostile_host_are_harmless(
    evil: Evil,
    watched: Watched,
    inv_program: InvProgram,
    programs: Path,
    seeds: tuple[int, ...],
) -> None:
    found = Figures()
    for seed in seeds:
        run_seed(seed, evil, watched, inv_program, programs, found)
    assert not found.failures


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_five_thousand_seeded_runs_against_a_hostile_host_are_harmless(
    evil: Evil,
    watched: Watched,
    inv_program: InvProgram,
    programs: Path,
    pytestconfig: pytest.Config,
) -> None:
    found = Figures()
    first, runs = FIRST, RUNS
    if pytestconfig.getoption("--first-seed") is not None:
        first, runs = pytestconfig.getoption("--first-seed"), pytestconfig.getoption("--seeds")
    for seed in range(first, first + runs):
        before = len(found.failures)
        run_seed(seed, evil, watched, inv_program, programs, found)
        if len(found.failures) > before or seed % 100 == 0:
            print(seed, *found.failures[before:], found, sep="\n", flush=True)
    print(found)
    assert not found.failures
