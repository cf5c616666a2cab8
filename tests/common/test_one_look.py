"""Answers that the hosts of one run share."""

from __future__ import annotations

from pathlib import Path

from ringtasks.common import one_look


def test_answers_are_kept_during_a_run_and_not_longer(tmp_path: Path) -> None:
    file = tmp_path / "file"
    size = one_look.kept(lambda path: path.stat().st_size)

    def sizes() -> list[int]:
        found = []
        for text in ("1", "22"):
            file.write_text(text)
            found.append(size(file))
        return found

    assert sizes() == [1, 2]
    with one_look.shared(60.0):
        assert sizes() == [1, 1]
        with one_look.shared(60.0):  # another run, which looks anew
            assert sizes() == [1, 1]
            file.write_text("333")
    assert size(file) == 3
    with one_look.shared():
        assert size(file) == 3
