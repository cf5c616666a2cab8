"""Shared parts of the tests of transfers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ringtasks.transfer import HostTransfer

__all__ = ["either_way", "hide_rsync", "only"]


def only(result: object) -> HostTransfer:
    """The result of a transfer with one host."""
    (host,) = result  # type: ignore[misc]  # a TransferResult
    assert isinstance(host, HostTransfer)
    return host


def hide_rsync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave git and ssh alone on the PATH, by links in a new folder."""
    folder.mkdir()
    for name in ("git", "ssh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture(params=["rsync", "SFTP"])
def either_way(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Both ways to move folders: what uses this holds for either."""
    way: str = request.param
    if way == "SFTP":
        hide_rsync(tmp_path / "no-rsync", monkeypatch)
    return way
