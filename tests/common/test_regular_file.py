"""A pipe in the place of a file of our own is an error, not a wait without end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks import SSHConfig
from ringtasks.common.regular_file import read_regular
from ringtasks.errors import HostKeyError, StateFileError
from ringtasks.fleet.last_run import LastRun
from ringtasks.inventory.sources import cache
from ringtasks.jobs.job_cache import had_job, last_seen
from ringtasks.ssh.pins import KnownHosts
from ringtasks.training.arrivals import pieces
from ringtasks.training.records import find_run

STATE = Path("state/ringtasks")
CONFIG = SSHConfig("192.0.2.1", name="box")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("file", "read"),
    [
        (STATE / "jobs/box.json", lambda: last_seen("box", "") or had_job("box", "1")),
        (STATE / "cached.json", lambda: cache.read(STATE / "cached.json").error),
        (Path("runs/one/run.json"), lambda: find_run("runs", "one")),
    ],
)
def test_pipe_in_place_of_a_record_is_no_record(
    folder: Path, file: Path, read: Callable[[], object]
) -> None:
    file.parent.mkdir(parents=True)
    os.mkfifo(file)

    assert not read()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("file", "read", "error"),
    [
        (STATE / "last-run.json", lambda: LastRun("run").undone(), StateFileError),
        (STATE / "known_hosts", lambda: KnownHosts().pins(CONFIG), HostKeyError),
        (Path("log"), lambda: list(pieces(Path("log"))), OSError),
    ],
)
def test_pipe_in_place_of_a_needed_file_is_an_error(
    folder: Path, file: Path, read: Callable[[], object], error: type[Exception]
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(file)

    with pytest.raises(error, match="is not a regular file"):
        read()


def test_null_device_is_an_empty_file() -> None:
    assert read_regular(os.devnull) == b""
