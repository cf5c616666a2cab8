"""The folder of the control sockets is checked before ssh is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtasks.errors import StateFileError
from ringtasks.ssh.master.folder import check_sockets


def test_a_folder_that_holds_sockets_is_left_as_it_was(tmp_path: Path) -> None:
    check_sockets(tmp_path)

    assert list(tmp_path.iterdir()) == [tmp_path / "own-home"]


@pytest.mark.parametrize("folder", ["/proc/self/fdinfo", "/sys/kernel"])
def test_a_file_system_without_sockets_is_told(folder: str) -> None:
    with pytest.raises(StateFileError, match="cannot hold sockets"):
        check_sockets(Path(folder))
