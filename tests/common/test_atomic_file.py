"""Files that are replaced at once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ringtasks.common.atomic_file import replace_file


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_replaced_file_has_the_content_and_the_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "file"
    file.write_text("an old and longer text")
    before = os.umask(0o077)
    try:
        replace_file(file, "new é", mode=mode)
    finally:
        os.umask(before)

    assert file.read_text(encoding="utf-8") == "new é"
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert not list(tmp_path.glob(".*"))


def test_a_draft_of_a_killed_writer_is_overwritten(tmp_path: Path) -> None:
    draft = tmp_path / ".file.new"
    draft.write_bytes(b"half of a much longer document")
    draft.chmod(0o666)

    replace_file(tmp_path / "file", b"whole", draft=draft)

    assert (tmp_path / "file").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert not draft.exists()


def test_symbolic_link_in_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    draft = tmp_path / ".file.new"
    draft.symlink_to(victim)

    with pytest.raises(OSError, match="symbolic links"):
        replace_file(tmp_path / "file", "x", draft=draft)

    assert victim.read_text() == "kept"


def test_failed_replacement_keeps_the_old_file_and_leaves_no_draft(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.mkdir()

    with pytest.raises(IsADirectoryError) as failed:
        replace_file(folder, "x")
    with pytest.raises(FileNotFoundError) as missing:
        replace_file(tmp_path / "absent" / "file", "x")

    assert not list(tmp_path.glob(".*"))
    assert (failed.value.filename, failed.value.filename2) == (str(folder), None)
    assert missing.value.filename == str(tmp_path / "absent" / "file")
