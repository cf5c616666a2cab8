"""When a step of ringtasks' own is repeated."""

from __future__ import annotations

import pytest

from ringtasks.client.result import SSHResult
from ringtasks.client.retries import LinkRetries
from ringtasks.exit_status import UNREACHABLE


def result(returncode: int = 0, *, is_unknown: bool = False) -> SSHResult:
    error = None if returncode != UNREACHABLE else "the link was lost"
    return SSHResult(
        returncode == 0, returncode, "", "", 1.0, "x", "box", error=error, is_unknown=is_unknown
    )


GOOD, FAILED = result(), result(1)
LOST, UNREACHED = result(UNREACHABLE, is_unknown=True), result(UNREACHABLE)


@pytest.mark.parametrize(
    ("results", "delays"),
    [
        ([GOOD], [None]),
        ([FAILED], [None]),
        ([UNREACHED], [None]),  # never reached: the user is told at once
        ([LOST, GOOD], [0.0, None]),
        ([LOST, UNREACHED, UNREACHED, GOOD], [0.0, 0.5, 1.0, None]),
        ([LOST, UNREACHED, LOST, UNREACHED], [0.0, 0.5, 0.0, 0.5]),
        ([LOST, UNREACHED, GOOD, UNREACHED], [0.0, 0.5, None, 0.5]),
        ([LOST, *[UNREACHED] * 6], [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, None]),
        ([LOST, LOST, LOST, LOST], [0.0, 0.0, 0.0, None]),
    ],
)
def test_steps_are_repeated_while_only_the_connection_fails(
    results: list[SSHResult], delays: list[float | None]
) -> None:
    retries = LinkRetries(most_losses=3)

    assert [retries.delay(result) for result in results] == delays
    assert retries.losses == min(3, results.count(LOST))


def test_host_that_was_reached_before_is_tried_again_without_a_lost_link() -> None:
    assert LinkRetries(most_losses=3, is_reached=True).delay(UNREACHED) == 0.5
