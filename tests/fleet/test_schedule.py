"""The schedule of a run, pure, with a clock that the test moves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtasks.fleet.overload import Limit, is_overload, retry_delay
from ringtasks.fleet.schedule import PARK_AFTER, Schedule, Ticket
from ringtasks.health.model import HostOutcome, RouteOutcome


def schedule(
    gates: list[str | None] | int, fanout: int = 64, jump: int = 8, batch: int = 10_000,
    limit: int | None = None,
) -> Schedule:  # fmt: skip
    given = [None] * gates if isinstance(gates, int) else gates
    return Schedule(given, fanout=fanout, jump_fanout=jump, batch_size=batch, failure_limit=limit)


def take_all(turns: Schedule, now: float = 0.0) -> list[Ticket]:
    taken = []
    while (ticket := turns.take(now)) is not None:
        taken.append(ticket)
    return taken


def test_schedule_starts_no_more_hosts_than_the_fanout() -> None:
    turns = schedule(5, fanout=2)

    first = take_all(turns)
    turns.done(first[0], is_failure=False)

    assert [ticket.index for ticket in first] == [0, 1]
    assert [ticket.index for ticket in take_all(turns)] == [2]


def test_schedule_starts_a_batch_when_all_hosts_of_the_previous_have_ended() -> None:
    turns = schedule(4, batch=2)
    first, second = take_all(turns)

    turns.done(first, is_failure=False)
    assert take_all(turns) == []

    turns.done(second, is_failure=True)
    assert [ticket.index for ticket in take_all(turns)] == [2, 3]


def test_schedule_stops_once_the_failure_limit_is_reached() -> None:
    turns = schedule(4, limit=2)
    tickets = take_all(turns)

    turns.done(tickets[0], is_failure=True)
    assert not turns.has_enough()
    turns.done(tickets[1], is_failure=True)

    assert turns.has_enough()


def test_host_not_reached_for_a_while_is_parked_and_frees_its_slot() -> None:
    turns = schedule(2, fanout=1)
    (slow,) = take_all(turns)

    turns.park(PARK_AFTER - 0.01)
    assert take_all(turns, PARK_AFTER) == []
    turns.park(PARK_AFTER)
    (other,) = take_all(turns, PARK_AFTER)

    assert (slow.index, other.index) == (0, 1)


def test_parked_host_needs_a_slot_again_once_it_is_reached() -> None:
    turns = schedule(2, fanout=1)
    (slow,) = take_all(turns)
    turns.park(PARK_AFTER)
    (other,) = take_all(turns, PARK_AFTER)

    turns.reached(slow)
    assert not turns.unpark(slow)
    turns.done(other, is_failure=False)

    assert turns.unpark(slow)


def test_reached_host_keeps_its_slot_until_its_command_ends() -> None:
    turns = schedule(2, fanout=1)
    (running,) = take_all(turns)
    turns.reached(running)

    turns.park(1000.0)

    assert take_all(turns, 1000.0) == []


def test_unreachable_hosts_use_at_most_four_times_the_fanout_in_threads() -> None:
    turns = schedule(100, fanout=2)
    for now in range(100):
        turns.park(float(now))
        take_all(turns, float(now))

    assert sum(ticket.is_parked for ticket in turns._under_way) == 8


def test_logins_through_one_jump_host_are_limited_without_blocking_others() -> None:
    turns = schedule(["bastion", "bastion", "bastion", None], jump=2)

    taken = take_all(turns)
    assert [ticket.index for ticket in taken] == [0, 1, 3]

    turns.reached(taken[0])  # it is logged in: what counts are log-ins
    assert [ticket.index for ticket in take_all(turns)] == [2]


def test_dropped_host_waits_for_its_delay_and_precedes_hosts_not_yet_started() -> None:
    turns = schedule(3, fanout=2)
    first, _ = take_all(turns)

    turns.again(first, now=1.0, delay=0.5)

    assert turns.next_wake(1.0) == pytest.approx(0.0)  # the other one may be parked by now
    assert turns.take(1.4) is None  # fewer at once, and it is not time yet
    turns.park(1.5)
    assert turns.take(1.5) is first


def test_concurrency_falls_after_dropped_logins_and_rises_after_successes() -> None:
    limit = Limit(8)

    limit.overloaded(began_at=0.0, now=1.0)
    limit.overloaded(began_at=0.5, now=1.0)  # it had begun before: not once more
    assert limit.size == 4
    limit.overloaded(began_at=1.5, now=2.0)
    assert limit.size == 2
    for _ in range(20):
        limit.served()

    assert limit.size == 8


def test_concurrency_limit_never_falls_below_one() -> None:
    limit = Limit(2)
    for now in range(20):
        limit.overloaded(began_at=float(now), now=float(now))

    assert limit.size == 1


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        pytest.param([("direct", "reset")], True, id="closed before the banner"),
        pytest.param([("direct", "overloaded")], True, id="told so"),
        pytest.param([("direct", "reset")], True, id="dropped in the key exchange"),
        pytest.param([("direct", "jump host failed")], True, id="open failed"),
        pytest.param([("tailscale", "timed out"), ("direct", "reset")], True, id="one of two"),
        pytest.param([("direct", "refused")], False, id="no listener"),
        pytest.param([("direct", "authentication refused")], False, id="a wrong key"),
        pytest.param([], False, id="no route"),
    ],
)
def test_overload_is_recognised_from_the_failure_reasons_of_all_routes(
    routes: list[tuple[str, str]], expected: bool
) -> None:
    failed = tuple(RouteOutcome(name, success=False, reason=reason) for name, reason in routes)

    assert is_overload(HostOutcome("a", success=False, routes=failed)) is expected


def test_reached_host_is_never_classified_as_overloaded() -> None:
    routes = (RouteOutcome("tailscale", False, "reset"), RouteOutcome("direct", True))

    assert not is_overload(HostOutcome("a", success=True, routes=routes))
    assert not is_overload(None)


def test_retry_delays_double_with_jitter() -> None:
    assert [retry_delay(n, 0.5) for n in (1, 2, 3, 4, 5, 6)] == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    assert (retry_delay(1, 0.0), retry_delay(1, 1.0)) == (0.125, 0.375)


@settings(deadline=None)
@given(
    seed=st.integers(),
    gates=st.lists(st.sampled_from([None, "a", "b"]), min_size=1, max_size=30),
    fanout=st.integers(1, 5),
    jump=st.integers(1, 3),
    batch=st.integers(1, 30),
)
def test_any_schedule_ends_each_host_once_and_keeps_the_limits(
    seed: int, gates: list[str | None], fanout: int, jump: int, batch: int
) -> None:
    chance = random.Random(seed)
    turns = schedule(gates, fanout, jump, batch)
    under_way: list[Ticket] = []
    ended: list[int] = []
    now = 0.0

    while not turns.is_over:
        turns.park(now)
        under_way += take_all(turns, now)
        assert sum(not ticket.is_parked for ticket in under_way) <= fanout
        for gate in ("a", "b"):
            assert sum(t.jump_host == gate and not t.is_reached for t in under_way) <= jump
        if under_way:
            ticket = chance.choice(under_way)
            happened = chance.choice(["reached", "done", "again", "nothing"])
            if happened == "reached" and not ticket.is_reached:
                turns.reached(ticket)
                turns.unpark(ticket)
            elif happened == "done":
                under_way.remove(ticket)
                turns.done(ticket, is_failure=False)
                ended.append(ticket.index)
            elif happened == "again" and ticket.attempts < 3:
                under_way.remove(ticket)
                turns.again(ticket, now, 0.3)
        now += 0.2

    assert sorted(ended) == list(range(len(gates)))
