"""Answers that the hosts of one run share."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
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


def test_many_threads_that_need_an_answer_look_once() -> None:
    calls: list[str] = []
    all_ask = threading.Barrier(8)

    def answer(name: str) -> str:
        calls.append(name)
        time.sleep(0.01)  # lets the other threads run
        return name.upper()

    ask = one_look.kept(answer)

    def ask_with_others(_number: int) -> str:
        all_ask.wait()
        return str(ask("gpu"))

    with one_look.shared(60.0), ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask_with_others, range(8))) == {"GPU"}
    assert calls == ["gpu"]
