"""The start of each runner: RFC 8305's stagger, on a clock that the test sets."""

from __future__ import annotations

import pytest

from ringtasks.ssh.race import COSTLY_DELAY, HEAD_START, Race


def test_the_first_runner_starts_at_once() -> None:
    race = Race(["a", "b"])

    assert race.next_start(100.0) == 100.0
    assert race.start(100.0) == "a"


def test_next_runner_waits_for_the_head_start_of_the_previous_one() -> None:
    race = Race(["a", "b"])
    race.start(100.0)

    assert race.next_start(100.1) == 100.0 + HEAD_START
    assert race.next_start(101.0) == 101.0


def test_failure_starts_the_next_runner_early() -> None:
    race = Race(["a", "b"])
    race.start(100.0)

    race.failed("a")

    assert race.next_start(100.01) == 100.01


def test_failure_beside_a_running_attempt_starts_no_other_attempt() -> None:
    race = Race(["a", "b", "c"])
    race.start(100.0)
    race.start(100.25)

    race.failed("a")

    assert race.running == ("b",)
    assert race.next_start(100.3) == 100.25 + HEAD_START


@pytest.mark.parametrize(
    ("waiting", "due"),
    [("cheap", 100.0 + HEAD_START), ("costly", 100.0 + COSTLY_DELAY)],
)
def test_costly_runner_starts_after_a_longer_delay(waiting: str, due: float) -> None:
    race = Race(["a", waiting], is_costly=lambda runner: runner == "costly")
    race.start(100.0)

    assert race.next_start(100.0) == due


def test_costly_runner_starts_at_once_if_all_others_have_failed() -> None:
    race = Race(["a", "costly"], is_costly=lambda runner: runner == "costly")
    race.start(100.0)

    race.failed("a")

    assert race.next_start(100.02) == 100.02


def test_race_ends_when_every_attempt_has_failed() -> None:
    race = Race(["a"])
    race.start(0.0)
    assert not race.is_over

    race.failed("a")

    assert race.is_over
    assert race.next_start(1.0) is None
