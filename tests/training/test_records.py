"""Runs on this machine: which files are their records, and the times at which their logs grew."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from ringtasks.errors import UsageError
from ringtasks.training.arrivals import pieces
from ringtasks.training.records import LAST, JobPlace, LogCopy, RunAttempt, find_run, new_run


@pytest.mark.parametrize(
    "text",
    [
        '"text"',
        "[1]",
        "[" * 100_000,
        '{"version": 1, "id": 5, "command": "c", "started_at": 1, "attempts": []}',
        '{"version": 1, "id": "a", "command": "c", "started_at": "x", "attempts": []}',
        '{"version": 1, "id": "a", "command": "c", "started_at": 1, "attempts": '
        '[{"attempt": 1, "state": "running", "jobs": [{"host_id": "h", "job_id": 7}]}]}',
        *(
            '{"version": 1, "id": "a", "command": "c", "started_at": 1e10, "attempts": '
            f'[{{"attempt": 1, "state": "running", "jobs": [{jobs}]}}]{more}}}'
            for jobs, more in [
                ("", ""),
                ('{"host_id": "h", "job_id": "7"}', ', "settings": "text"'),
                ('{"host_id": "h", "job_id": "7"}', ', "inventory": 5'),
                ('{"host_id": "h", "job_id": "7"}', ', "exit_status": "x"'),
                ('{"host_id": "h", "job_id": "7"}', ', "ended_at": "yes"'),
            ]
        ),
    ],
)
def test_file_of_another_program_is_no_record_of_a_run(tmp_path: Path, text: str) -> None:
    own = new_run(tmp_path, "train", "python3 train.py")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(text)

    found = find_run(tmp_path, LAST)

    assert found is not None
    assert (found.id, find_run(tmp_path, "absent")) == (own.id, None)
    assert find_run(tmp_path / "elsewhere", f"{own.folder}/") == own  # as a shell completes it


def test_last_run_is_the_newest_that_was_started(tmp_path: Path) -> None:
    started, starting = (new_run(tmp_path, name, "python3 train.py") for name in ("a", "b"))
    assert find_run(tmp_path, LAST) == starting

    started.attempts.append(RunAttempt(1, [JobPlace("box", "0a")]))
    started.save()

    assert find_run(tmp_path, LAST) == started
    assert find_run(tmp_path, "") is None


def test_log_is_read_in_small_pieces_each_with_its_time(tmp_path: Path) -> None:
    log = tmp_path / "attempt-1.log"
    log.write_bytes(b"a" * 10 + b"b" * (3 << 20) + b"c")
    times = f"10 1700000000.5\n{(3 << 20) + 10} -\n{(3 << 20) + 11} 17"  # the last is cut
    log.with_name("attempt-1.log.times").write_text(times)

    found = list(pieces(log))

    assert b"".join(piece for piece, _ in found) == log.read_bytes()
    assert found[0] == (b"a" * 10, 1700000000.5)
    assert {when for _, when in found[1:]} == {None}
    assert max(len(piece) for piece, _ in found) <= 1 << 20


def test_output_of_the_last_second_has_a_time(tmp_path: Path) -> None:
    log = tmp_path / "attempt-1.log"

    with LogCopy(log) as copy:
        for line in (b"step 1\n", b"step 2\n", b"step 3\n"):
            copy.write(line)

    assert b"".join(piece for piece, when in pieces(log) if when) == log.read_bytes()


def test_second_process_cannot_follow_a_run(tmp_path: Path) -> None:
    run = new_run(tmp_path, "train", "python3 train.py")

    with run.followed() as is_alone:
        second = pytest.raises(UsageError, match="follows it")
        with second, run.followed():
            pass

    assert is_alone


def test_run_on_a_file_system_without_locks_is_not_claimed_to_have_one_follower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    run = new_run(tmp_path, "train", "python3 train.py")
    monkeypatch.setattr(fcntl, "flock", without_locks)

    with run.followed() as is_alone:
        pass

    assert not is_alone
