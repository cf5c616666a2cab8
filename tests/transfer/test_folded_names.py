"""A file system that does not tell upper from lower case holds one of two names.

None is at hand here, so that its answer is given by the test.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from ringtasks.common.local_tree import LocalTree
from ringtasks.transfer.folded_names import folded_error


class FoldingTree(LocalTree):
    """The tree of such a file system."""

    def folds_case(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("copied", "lost"),
    [
        (["Makefile", "sub/", "sub/x", "./"], []),
        (["Makefile", "makefile"], ["makefile"]),
        (["sub/x", "sub/X", "sub/y", "other/z"], ["sub/X", "sub/y", "other/z"]),
        ([unicodedata.normalize("NFD", "\xe9"), "../out"], ["../out"]),
    ],
)
def test_names_that_differ_in_case_only_are_lost_on_some_file_systems(
    tmp_path: Path, copied: list[str], lost: list[str]
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("Makefile", "sub/x", "\xe9"):
        (tmp_path / name).touch()

    with FoldingTree(tmp_path, make=False) as tree:
        error = folded_error(tree, copied)

    assert (error is None) == (not lost)
    assert error is None or error.startswith(f"{', '.join(lost)}: lost: this file system holds one")


def test_file_system_that_tells_upper_from_lower_case_is_recognized(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with LocalTree(target, make=True) as tree:
        assert not tree.folds_case()
        assert folded_error(tree, ["gone"]) is None

    assert list(target.iterdir()) == []
