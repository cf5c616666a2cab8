"""Seeded runs of tasks on a host that changes its answers by chance.

Nothing outside the target changes, no task runs on beyond its limits, prints a traceback or takes
more memory than `MAX_RSS_KIB`.  ``RINGTASKS_TEST_SEED`` and ``RINGTASKS_TEST_RUNS`` choose the
seeds of the long run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.fixtures import ROOT, MakeSshd, WriteHosts
from tests.support.hostile_shell import Answers, HostileShell
from tests.support.watched import Watched

MAX_RSS_KIB = 300 * 1024
LIMIT = 45.0  # seconds
TASKS = (
    "get file {target} --timeout 5 --host evil",
    "get folder {target} --timeout 5 --host evil",
    "sync folder {target}/mirror --pull --timeout 5 --host evil",
    "jobs --json",
    "status --json",
    "logs j",
    "wait j --timeout 2",
    "deploy.status --json",
    "deploy.check --json",
    "train",
)


@pytest.fixture
def shell(make_sshd: MakeSshd, write_hosts: WriteHosts, tmp_path: Path) -> HostileShell:
    hostile = HostileShell(tmp_path / "answers")
    server = make_sshd(config=hostile.config)
    (server.home / "folder" / "deep").mkdir(parents=True)
    (server.home / "file").write_text("content")
    (server.home / "folder" / "deep" / "file").write_text("content")
    write_hosts(evil={"ssh_port": server.port, "use_control_master": True, "command_timeout": 5})
    return hostile


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "watched")


def run_seed(seed: int, shell: HostileShell, watched: Watched, folder: Path) -> tuple[float, int]:
    """Run one task; return its seconds, and its largest memory in KiB."""
    shell.answer(Answers(seed=seed))
    arguments = TASKS[seed % len(TASKS)].format(target=watched.target).split()
    began = time.monotonic()
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
        )  # fmt: skip
        _, _, usage = os.wait4(process.pid, 0)  # a hung one is ended by pytest's time limit
    took = time.monotonic() - began
    said = (folder / "printed").read_text(errors="replace")
    assert "Traceback" not in said, f"seed {seed}: {arguments}: {said[-3000:]}"
    assert took < LIMIT, f"seed {seed}: {arguments}: {took:.0f} s"
    assert usage.ru_maxrss < MAX_RSS_KIB, f"seed {seed}: {arguments}: {usage.ru_maxrss} KiB"
    watched.assert_untouched()
    return took, usage.ru_maxrss


def run_seeds(first: int, count: int, shell: HostileShell, watched: Watched, folder: Path) -> str:
    shutil.copy(ROOT / "tasks.py", folder)
    settings = f"deploy: {{hosts: evil, path: {folder}/srv, check: 'true', source: hosts}}\n"
    (folder / "invoke.yaml").write_text(
        settings + "train: {command: 'true', hosts: evil, lost_after: 2, fetch: []}\n"
    )
    found = [run_seed(seed, shell, watched, folder) for seed in range(first, first + count)]
    return f"{count} runs: {max(t for t, _ in found):.1f} s, {max(m for _, m in found) // 1024} MiB"


def test_a_few_seeded_runs_against_a_hostile_host_are_harmless(
    shell: HostileShell, watched: Watched, tmp_path: Path
) -> None:
    run_seeds(0, 4, shell, watched, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_five_thousand_seeded_runs_against_a_hostile_host_are_harmless(
    shell: HostileShell, watched: Watched, tmp_path: Path
) -> None:
    first = 5000 * int(os.environ.get("RINGTASKS_TEST_SEED", "1"))
    count = int(os.environ.get("RINGTASKS_TEST_RUNS", "5000"))
    print(run_seeds(first, count, shell, watched, tmp_path))
