"""Hosts files of thousands of hosts."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ringtasks.errors import UsageError
from ringtasks.inventory.loader import load_inventory
from ringtasks.inventory.selection import select
from tests.support.fixtures import ROOT

HOSTS = 2000

ENTRY = """\
  box{n:04}:
    ssh_host: 10.0.{a}.{b}
    ssh_port: 2222
    ssh_user: root
    ssh_key: ~/.ssh/id
    tailscale_ip: 100.64.{a}.{b}
    work_dir: ~/app
    role: gpu
    gpu: H100 80GB
    status: ready
"""
FACTS = "".join(f"    fact_{k}: value {k}\n" for k in range(11))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "tasks.py", tmp_path)
    path = tmp_path / "hosts" / "hosts.yaml"
    path.parent.mkdir()
    entries = (ENTRY.format(n=n, a=n // 256, b=n % 256) + FACTS for n in range(HOSTS))
    path.write_text("hosts:\n" + "".join(entries))
    return path


def test_thousands_of_hosts_are_listed(large: Path) -> None:
    program = [sys.executable, "-m", "invoke", "hosts"]

    printed = subprocess.check_output(program, cwd=large.parents[1], timeout=60)

    assert len(printed.splitlines()) == HOSTS + 1


def test_large_range_is_refused_before_expansion(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text("gpu1: {ssh_host: h}\n")
    inventory = load_inventory(file)
    before = resource.getrusage(resource.RUSAGE_SELF)

    with pytest.raises(UsageError, match="stands for more than 100000 names"):
        select("gpu[1-30000000]", inventory)

    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 0.5
    assert after.ru_maxrss - before.ru_maxrss < 50_000  # KiB
