"""The paths that git ignores below a folder, which may itself be ignored."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ringtasks.transfer.git import ignored_paths

FILES = ("src/a.py", "src/old.pyc", "runs/1/ck/f", "runs/1/ck/g.pyc")


@pytest.mark.parametrize("is_repository", [True, False])
@pytest.mark.parametrize(
    ("patterns", "folder", "ignored"),
    [
        ("runs/\n*.pyc\n", "", {"runs/", "src/old.pyc"}),
        ("runs/\n*.pyc\n", "runs", set()),
        ("runs/\n*.pyc\n", "runs/1/ck", set()),
        ("*\n!src\n!*.py\n", "", {"runs/", "src/old.pyc", ".gitignore"}),
        ("*\n!src\n!*.py\n", "src", {"old.pyc"}),
        ("*\n!src\n!*.py\n", "runs", set()),
    ],
)
def test_folder_that_git_ignores_is_whole_if_it_is_named(
    tmp_path: Path, patterns: str, folder: str, ignored: set[str], is_repository: bool
) -> None:
    top = tmp_path / "top"
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    (top / ".gitignore").write_text(patterns)
    if is_repository:
        subprocess.run(["git", "init", "-q", top], check=True)
    elif folder:
        ignored = set()  # the ignore files above the folder count in a repository only

    assert set(ignored_paths(top / folder)) == {".git", *ignored}
