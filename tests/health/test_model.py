"""Health and the circuit breaker: transitions as tables, and as properties over random events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.health.counts import CLAIM_TIMEOUT
from ringtasks.health.model import (
    HOST_CIRCUIT,
    ROUTE_CIRCUIT,
    Circuit,
    HostOutcome,
    RouteOutcome,
    SSHHealth,
    order_routes,
)

NOW = 1_700_000_000.0
ROUTES = ["tailscale", "direct", "cloudflare"]


def failed(times: int, at: float = NOW) -> SSHHealth:
    """A health whose last ``times`` attempts failed, the last one at ``at``."""
    health = SSHHealth()
    for _ in range(times):
        health = health.failed(at, "timed out")
    return health


# --- One host ---


def test_a_host_that_was_never_tried_is_healthy_and_has_no_successes() -> None:
    health = SSHHealth()

    assert health.is_healthy
    assert health.success_rate == 0.0
    assert health.circuit_state == "closed"
    assert (health.last_success, health.last_failure) == (None, None)


def test_success_is_counted_and_resets_consecutive_failures() -> None:
    health = failed(2).succeeded(NOW + 5)

    assert health == SSHHealth(
        last_success=NOW + 5,
        last_failure=NOW,
        consecutive_failures=0,
        consecutive_successes=1,
        total_successes=1,
        total_failures=2,
        last_reason="timed out",
    )


def test_failure_is_counted_with_its_reason_and_resets_consecutive_successes() -> None:
    health = SSHHealth().succeeded(NOW).succeeded(NOW + 1).failed(NOW + 2, "refused")

    assert health == SSHHealth(
        last_success=NOW + 1,
        last_failure=NOW + 2,
        consecutive_failures=1,
        consecutive_successes=0,
        total_successes=2,
        total_failures=1,
        last_reason="refused",
    )
    assert health.success_rate == pytest.approx(2 / 3)


def test_health_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        SSHHealth().total_failures = 1  # type: ignore[misc]


@pytest.mark.parametrize(("failures", "is_healthy"), [(0, True), (2, True), (3, False), (9, False)])
def test_host_is_unhealthy_after_three_consecutive_failures(
    failures: int, is_healthy: bool
) -> None:
    assert failed(failures).is_healthy is is_healthy


def test_circuit_state_depends_on_the_wall_clock() -> None:
    assert failed(3, at=NOW).circuit_state == "half_open"
    assert failed(3, at=4_000_000_000.0 - 1).circuit_state_at(4_000_000_000.0) == "open"


def test_an_outcome_counts_for_the_host_and_for_each_route_it_names() -> None:
    routes = (RouteOutcome("tailscale", False, "timed out"), RouteOutcome("direct", True))

    health = SSHHealth().after(HostOutcome("gpu", True, routes=routes, at=NOW))

    assert health == SSHHealth(
        last_success=NOW,
        consecutive_successes=1,
        total_successes=1,
        transports={
            "tailscale": SSHHealth().failed(NOW, "timed out"),
            "direct": SSHHealth().succeeded(NOW),
        },
    )


def test_outcome_without_success_or_failure_counts_only_for_its_routes() -> None:
    outcome = HostOutcome("gpu", None, routes=(RouteOutcome("direct", False, "link lost"),), at=NOW)

    health = SSHHealth().after(outcome)

    assert health == SSHHealth(transports={"direct": SSHHealth().failed(NOW, "link lost")})


def test_failed_outcome_keeps_the_health_of_other_routes() -> None:
    before = SSHHealth(transports={"tailscale": SSHHealth().succeeded(NOW - 9)})

    after = before.after(HostOutcome("gpu", False, "direct: reset", at=NOW))

    assert after == replace(before.failed(NOW, "direct: reset"), transports=before.transports)


# --- The circuit ---


@pytest.mark.parametrize(
    ("circuit", "failures", "backoff"),
    [
        (HOST_CIRCUIT, 0, 0.0),
        (HOST_CIRCUIT, 2, 0.0),
        (HOST_CIRCUIT, 3, 30.0),
        (HOST_CIRCUIT, 4, 60.0),
        (HOST_CIRCUIT, 5, 120.0),
        (HOST_CIRCUIT, 6, 240.0),
        (HOST_CIRCUIT, 7, 300.0),
        (HOST_CIRCUIT, 10**6, 300.0),
        (ROUTE_CIRCUIT, 0, 0.0),
        (ROUTE_CIRCUIT, 1, 30.0),
        (ROUTE_CIRCUIT, 2, 60.0),
        (ROUTE_CIRCUIT, 4, 240.0),
        (ROUTE_CIRCUIT, 5, 300.0),
        (ROUTE_CIRCUIT, 10**6, 300.0),
    ],
)
def test_the_backoff_doubles_from_30_s_up_to_300_s(
    circuit: Circuit, failures: int, backoff: float
) -> None:
    assert circuit.backoff(failures) == backoff


CLOSED = failed(2)
OPEN = failed(3)  # until NOW + 30


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        pytest.param(CLOSED, lambda h: h.succeeded(NOW), "closed", id="closed, success"),
        pytest.param(SSHHealth(), lambda h: h.failed(NOW, ""), "closed", id="closed, failure"),
        pytest.param(CLOSED, lambda h: h.failed(NOW, ""), "open", id="closed, third failure"),
        pytest.param(OPEN, lambda h: h.succeeded(NOW), "closed", id="open, success"),
        pytest.param(OPEN, lambda h: h.failed(NOW, ""), "open", id="open, failure"),
        pytest.param(failed(3, NOW - 30), lambda h: h, "half_open", id="open, back-off over"),
        pytest.param(failed(3, NOW - 29.9), lambda h: h, "open", id="open, back-off not over"),
        pytest.param(
            failed(3, NOW - 30), lambda h: h.succeeded(NOW), "closed", id="half-open, success"
        ),
        pytest.param(
            failed(3, NOW - 30), lambda h: h.failed(NOW, ""), "open", id="half-open, failure"
        ),
        pytest.param(
            failed(3, NOW - 30),
            lambda h: HOST_CIRCUIT.claim(h, NOW),
            "half_open",
            id="half-open, claimed",
        ),
    ],
)
def test_circuit_transition_matches_the_table(
    before: SSHHealth, event: Callable[[SSHHealth], SSHHealth], after: str
) -> None:
    assert event(before).circuit_state_at(NOW) == after


def test_failed_half_open_attempt_opens_the_circuit_with_a_longer_backoff() -> None:
    reopened = failed(3).failed(NOW + 30, "refused")

    assert reopened.circuit_state_at(NOW + 30 + 59.9) == "open"
    assert reopened.circuit_state_at(NOW + 30 + 60) == "half_open"


def test_route_circuit_opens_at_its_first_failure_and_a_host_circuit_does_not() -> None:
    assert failed(1).route_state_at(NOW) == "open"
    assert failed(1).route_state_at(NOW + 30) == "half_open"
    assert failed(1).circuit_state_at(NOW) == "closed"


@pytest.mark.parametrize("circuit", [HOST_CIRCUIT, ROUTE_CIRCUIT])
def test_a_half_open_circuit_grants_one_attempt(circuit: Circuit) -> None:
    half_open = failed(3, NOW - 300)

    claimed = circuit.claim(half_open, NOW)

    assert claimed == replace(half_open, probing_since=NOW)
    assert circuit.claim(claimed, NOW) is None
    assert circuit.claim(claimed, NOW + CLAIM_TIMEOUT - 0.1) is None


def test_claim_of_a_dead_process_expires() -> None:
    claimed = ROUTE_CIRCUIT.claim(failed(1, NOW - 30), NOW)
    assert claimed is not None

    assert ROUTE_CIRCUIT.claim(claimed, NOW + CLAIM_TIMEOUT) is not None


def test_open_circuit_grants_no_attempt_and_a_closed_circuit_any_number() -> None:
    assert HOST_CIRCUIT.claim(OPEN, NOW) is None
    assert HOST_CIRCUIT.claim(CLOSED, NOW) is CLOSED


@pytest.mark.parametrize("result", [SSHHealth.succeeded, lambda h, now: h.failed(now, "")])
def test_attempt_result_ends_its_claim(
    result: Callable[[SSHHealth, float], SSHHealth],
) -> None:
    claimed = ROUTE_CIRCUIT.claim(failed(1, NOW - 30), NOW)
    assert claimed is not None

    assert result(claimed, NOW + 1).probing_since is None


@pytest.mark.parametrize("hours", [0.001, 1, 24 * 365])
def test_clock_set_back_does_not_lengthen_a_backoff(hours: float) -> None:
    health = failed(3, at=NOW + hours * 3600)

    assert health.circuit_state_at(NOW) == "half_open"


def test_clock_set_back_does_not_lengthen_a_claim() -> None:
    half_open = replace(failed(3, NOW - 300), probing_since=NOW + 3600)

    assert HOST_CIRCUIT.admits(half_open, NOW)


def test_failures_without_a_time_leave_the_circuit_half_open() -> None:
    assert SSHHealth(consecutive_failures=3).circuit_state_at(NOW) == "half_open"


# --- The order of routes ---


CLAIMED = replace(failed(1, NOW - 31), probing_since=NOW - 1)


@pytest.mark.parametrize(
    ("transports", "order"),
    [
        pytest.param({}, "tailscale direct cloudflare", id="nothing known: the given order"),
        pytest.param(
            {"cloudflare": SSHHealth().succeeded(NOW)},
            "tailscale direct cloudflare",
            id="successes do not count",
        ),
        pytest.param(
            {"tailscale": failed(1)}, "direct cloudflare tailscale", id="a failing one at the back"
        ),
        pytest.param(
            {"tailscale": failed(1, NOW - 30)},
            "tailscale direct cloudflare",
            id="tried first again after its back-off",
        ),
        pytest.param(
            {"tailscale": CLAIMED},
            "direct cloudflare tailscale",
            id="somebody else is finding out",
        ),
        pytest.param(
            {"tailscale": failed(2), "direct": failed(1)},
            "cloudflare direct tailscale",
            id="the first to recover first among the failing",
        ),
        pytest.param(
            {"tailscale": failed(1), "direct": CLAIMED},
            "cloudflare direct tailscale",
            id="one that may have recovered before one that has not",
        ),
        pytest.param(
            dict.fromkeys(ROUTES, failed(9)),
            "tailscale direct cloudflare",
            id="all failing alike: the given order",
        ),
    ],
)
def test_routes_are_ordered_by_health(transports: dict[str, SSHHealth], order: str) -> None:
    assert order_routes(ROUTES, transports, NOW) == order.split()


# --- Any order of events ---

gaps = st.floats(-1000, 1000) | st.just(0.0)
events = st.lists(st.tuples(st.booleans(), gaps), max_size=30)


def after_events(happened: list[tuple[bool, float]]) -> tuple[SSHHealth, float]:
    health, now = SSHHealth(), NOW
    for success, gap in happened:
        now += gap
        health = health.succeeded(now) if success else health.failed(now, "reset")
    return health, now


@given(events)
def test_every_health_event_is_counted_once(happened: list[tuple[bool, float]]) -> None:
    health, _ = after_events(happened)

    assert health.total_successes == sum(success for success, _ in happened)
    assert health.total_successes + health.total_failures == len(happened)
    assert 0.0 <= health.success_rate <= 1.0


@given(events)
def test_consecutive_successes_and_failures_are_never_both_positive(
    happened: list[tuple[bool, float]],
) -> None:
    health, _ = after_events(happened)
    in_a_row = 0
    for success, _ in reversed(happened):
        if success != happened[-1][0]:
            break
        in_a_row += 1

    counts = {True: health.consecutive_successes, False: health.consecutive_failures}
    assert sorted(counts.values()) == [0, in_a_row]
    assert not happened or counts[happened[-1][0]] == in_a_row


@given(events, st.floats(-1e6, 1e6))
def test_circuit_opens_at_three_failures_and_for_at_most_its_backoff(
    happened: list[tuple[bool, float]], later: float
) -> None:
    health, last = after_events(happened)
    now = last + later
    state = health.circuit_state_at(now)

    assert (state == "closed") == health.is_healthy == (health.consecutive_failures < 3)
    if now < last or now >= last + 300:
        assert state != "open"


@given(
    st.lists(st.sampled_from([*ROUTES, "lan"]), unique=True),
    st.dictionaries(st.sampled_from([*ROUTES, "gone"]), events),
)
def test_route_order_is_a_permutation_with_refused_routes_last(
    routes: list[str], happened: dict[str, list[tuple[bool, float]]]
) -> None:
    transports = {route: after_events(own)[0] for route, own in happened.items()}

    ordered = order_routes(routes, transports, NOW)

    admitted = [ROUTE_CIRCUIT.admits(transports.get(r, SSHHealth()), NOW) for r in ordered]
    assert sorted(ordered) == sorted(routes)
    assert admitted == sorted(admitted, reverse=True)
    well = [route for route, is_admitted in zip(ordered, admitted, strict=True) if is_admitted]
    assert well == [route for route in routes if route in well]
