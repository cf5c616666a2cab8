"""A run on more hosts than ``ulimit -n`` has descriptors for takes fewer at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, WriteHosts


@pytest.mark.matrix(1)
@pytest.mark.parametrize("task", [["run", "--host", "@all", "--cmd", "echo ok"], ["status"]])
def test_sixteen_hosts_with_few_descriptors_all_succeed(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path, task: list[str]
) -> None:
    write_hosts(**{f"h{n}": {"ssh_host": f"127.0.0.{n % 4 + 1}"} for n in range(16)})
    inv("hosts")  # puts tasks.py there
    done = subprocess.run(
        ["bash", "-c", 'ulimit -n 48; "$@"', "bash", sys.executable, "-m", "invoke", *task],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
