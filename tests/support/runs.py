"""Checks after a run of ``inv run``."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from ringtasks.health.store import HealthStore

__all__ = ["assert_refused", "is_running"]


def assert_refused(done: subprocess.CompletedProcess[bytes], expected: str) -> None:
    """Nothing was sent, and one line tells why."""
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert expected in said
    assert said.count("\n") == 1
    assert done.stdout == b""
    assert HealthStore().load() == {}


def is_running(pid: int) -> bool:
    """Whether a process goes on, if it is given a moment to end."""
    deadline = time.monotonic() + 5  # a killed process is reaped a moment later
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state in "ZX":
            return False
        time.sleep(0.05)
    return True
