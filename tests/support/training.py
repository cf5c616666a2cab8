"""A training program, its settings, and the run that comes of them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringtasks.training.curves import Curves

__all__ = [
    "WriteSettings",
    "await_job",
    "curves_of",
    "needs",
    "needs_program",
    "run_of",
    "settings_in",
    "start_train",
]

WriteSettings = Callable[..., None]
TIMEOUT = 20.0

#: Prints what a training program prints, from its checkpoint on, one epoch at a time.
PROGRAM = """
import os, pathlib, signal, sys, time
epochs, fate = int(sys.argv[1]), sys.argv[2:]
state = pathlib.Path("checkpoint/epoch")
first = int(state.read_text()) if state.exists() else 0
print("attempt", os.environ["RINGTASKS_ATTEMPT"], "from epoch", first, flush=True)
for epoch in range(first + 1, epochs + 1):
    print(f"epoch {epoch}/{epochs} loss={1 / epoch:.3f}", flush=True)
    state.parent.mkdir(exist_ok=True)
    state.write_text(str(epoch))
    if fate == [os.environ["RINGTASKS_ATTEMPT"], str(epoch)]:
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
pathlib.Path("model").write_text("trained")
"""


def needs(module: str) -> None:
    """A heavy test was asked for by name: where it cannot run, that is a failure."""
    if importlib.util.find_spec(module) is None:
        pytest.fail(f"{module} is missing: pip install -e '.[heavy]'")


def needs_program(*names: str) -> str:
    """Return the path of the first program that is installed; without one the test fails."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(f"{names[0]} is missing: script/test --heavy installs it")
    return found


def settings_in(folder: Path) -> WriteSettings:
    """Return a function that writes ``invoke.yaml`` there, for a run of `PROGRAM`."""

    def write(**settings: Any) -> None:
        (folder / "src").mkdir(exist_ok=True)
        (folder / "src" / "program.py").write_text(PROGRAM)
        common = {
            "command": "python3 program.py 5",
            "hosts": "@all",
            "cwd": "~/run",
            "sync_up": "src",
            "fetch": ["model"],
        }
        text = yaml.safe_dump({"train": {**common, **settings}})
        (folder / "invoke.yaml").write_text(text)

    return write


def run_of(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The one run's folder and record."""
    (folder,) = (tmp_path / "runs").iterdir()
    return folder, json.loads((folder / "run.json").read_text())


def start_train(folder: Path, *flags: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", "train", *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ,
    )


def await_job(folder: Path) -> str:
    """The id of the run's first job, once there is one."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        for record in folder.glob("runs/*/run.json"):
            for attempt in json.loads(record.read_text())["attempts"]:
                job: str = attempt["jobs"][0]["job_id"]
                return job
        time.sleep(0.02)
    raise AssertionError("no job was started")


def curves_of(attempts: Iterable[Iterable[bytes]], max_points: int | None = 8192) -> Curves:
    """The curves of whole logs: of each attempt, those of its hosts."""
    curves = Curves(max_points)
    for n, logs in enumerate(attempts):
        if n:
            curves.new_attempt()
        for host, log in enumerate(logs):
            curves.feed(log, str(host))
        curves.end()
    return curves
