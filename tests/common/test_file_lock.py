"""A lock file on a file system that refuses locks."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from ringtasks.common.file_lock import locked


def test_lock_that_the_system_refuses_leaves_no_descriptor_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = list(Path("/dev/fd").iterdir())

    with pytest.raises(OSError, match="No locks"), locked(tmp_path / "lock", 1):
        pass

    assert len(list(Path("/dev/fd").iterdir())) == len(before)
