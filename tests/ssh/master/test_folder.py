"""The folder of the control sockets is checked before ssh is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtasks.errors import StateFileError
from ringtasks.ssh.master.folder import check_sockets


def test_check_for_socket_support_leaves_the_directory_unchanged(tmp_path: Path) -> None:
    check_sockets(tmp_path)

    assert list(tmp_path.iterdir()) == [tmp_path / "own-home"]


@pytest.mark.parametrize("folder", ["/proc/self/fdinfo", "/sys/kernel"])
def test_file_system_without_socket_support_is_reported(folder: str) -> None:
    with pytest.raises(StateFileError, match="cannot hold sockets"):
        check_sockets(Path(folder))
