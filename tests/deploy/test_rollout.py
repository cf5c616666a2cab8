"""The order of a rollout, whatever happens: no I/O."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ringtasks.deploy.report import EndState
from ringtasks.deploy.rollout import Action, Rollout, RolloutStep

_HOSTS = tuple("cabdef")


def test_rollout_without_failures_runs_every_step_in_order() -> None:
    steps = _run(Rollout(_HOSTS, batch_size=4), set())

    assert steps == [
        RolloutStep(Action.LOOK, tuple(sorted(_HOSTS))),
        RolloutStep(Action.LOCK, tuple(sorted(_HOSTS)), in_order=True),
        RolloutStep(Action.STAGE, tuple(sorted(_HOSTS))),
        RolloutStep(Action.ACTIVATE, ("c", "a", "b", "d")),
        RolloutStep(Action.ACTIVATE, ("e", "f")),
        RolloutStep(Action.FINISH, tuple(sorted(_HOSTS))),
    ]


def test_failure_in_the_second_batch_reverts_hosts_in_reverse_order() -> None:
    rollout = Rollout(_HOSTS, batch_size=2)
    steps = _run(rollout, {(Action.ACTIVATE, "d")})

    assert [step.hosts for step in steps if step.action is Action.ACTIVATE] == [
        ("c", "a"),
        ("b", "d"),
    ]
    assert [step.hosts for step in steps if step.action is Action.REVERT] == [
        ("d", "b"),
        ("a", "c"),
    ]
    assert rollout.end_state == {
        **dict.fromkeys("cabd", EndState.REVERTED),
        **dict.fromkeys("ef", EndState.STAGED),
    }


def test_hosts_that_fail_within_the_limit_are_reverted_and_the_others_continue() -> None:
    rollout = Rollout(_HOSTS, batch_size=2, max_failures=2)
    steps = _run(rollout, {(Action.ACTIVATE, "a")})

    assert [step.hosts for step in steps if step.action is Action.REVERT] == [("a",)]
    assert rollout.end_state == {
        **dict.fromkeys("cbdef", EndState.DEPLOYED),
        "a": EndState.REVERTED,
    }


def test_no_further_lock_is_requested_after_a_refused_one() -> None:
    rollout = Rollout(_HOSTS, batch_size=2)
    steps = _run(rollout, {(Action.LOCK, "c")})

    assert [step.action for step in steps] == [Action.LOOK, Action.LOCK, Action.FINISH]
    assert steps[-1].hosts == ("a", "b", "c")


def test_host_that_could_not_be_reverted_is_not_reported_as_reverted() -> None:
    rollout = Rollout(("a",), batch_size=1)
    _run(rollout, {(Action.ACTIVATE, "a"), (Action.REVERT, "a")})
    assert rollout.end_state == {"a": EndState.FAILED}

    rollout = Rollout(("a",), batch_size=1)
    _run(rollout, {(Action.ACTIVATE, "a"), (Action.REVERT, "a")}, is_known=False)
    assert rollout.end_state == {"a": EndState.UNKNOWN}


_TROUBLE = st.sets(
    st.tuples(
        st.sampled_from([Action.LOOK, Action.LOCK, Action.STAGE, Action.ACTIVATE]),
        st.sampled_from(_HOSTS),
    ),
    max_size=4,
)


@settings(max_examples=200)
@given(
    trouble=_TROUBLE,
    batch_size=st.integers(1, 7),
    max_failures=st.integers(1, 4),
    stop_after=st.none() | st.integers(0, 12),
)
def test_any_rollout_leaves_no_host_between_two_releases(
    trouble: set[tuple[Action, str]], batch_size: int, max_failures: int, stop_after: int | None
) -> None:
    rollout = Rollout(_HOSTS, batch_size=batch_size, max_failures=max_failures)

    steps = _run(rollout, trouble, stop_after=stop_after)

    done = {action: [h for s in steps if s.action is action for h in s.hosts] for action in Action}
    # Nothing is switched unless everything was built, nor twice, nor too many at once.
    if done[Action.ACTIVATE]:
        assert not any(action is not Action.ACTIVATE for action, _ in trouble)
        assert sorted(done[Action.STAGE]) == sorted(_HOSTS)
    assert len(set(done[Action.ACTIVATE])) == len(done[Action.ACTIVATE])
    sizes = [len(s.hosts) for s in steps if s.action in (Action.ACTIVATE, Action.REVERT)]
    assert max(sizes, default=0) <= batch_size
    # Each lock that may be ours is given back, once, at the end.
    assert sorted(done[Action.FINISH]) == sorted(_locked(steps, trouble))
    # Whoever was switched serves the new release well, or the old one again.
    for host in done[Action.ACTIVATE]:
        is_back = host in done[Action.REVERT]
        assert rollout.end_state[host] is (EndState.REVERTED if is_back else EndState.DEPLOYED)
    if rollout.is_stopped:
        assert sorted(done[Action.REVERT]) == sorted(done[Action.ACTIVATE])
    else:
        assert sorted(done[Action.ACTIVATE]) == sorted(_HOSTS)


def _run(
    rollout: Rollout,
    trouble: set[tuple[Action, str]],
    *,
    is_known: bool = True,
    stop_after: int | None = None,
) -> list[RolloutStep]:
    """Its steps, where these go wrong and Ctrl-C comes after so many."""
    steps: list[RolloutStep] = []
    while (step := rollout.next()) is not None:
        assert len(steps) < 50, "it does not end"
        steps.append(step)
        for host in step.hosts:
            is_well = (step.action, host) not in trouble
            rollout.ended(step, host, is_well=is_well, is_known=is_well or is_known)
            if step.in_order and not is_well:
                break
        if stop_after is not None and len(steps) > stop_after:
            rollout.stop()
    return steps


def _locked(steps: list[RolloutStep], trouble: set[tuple[Action, str]]) -> list[str]:
    hosts: list[str] = []
    for step in steps:
        if step.action is Action.LOCK:
            for host in step.hosts:
                hosts.append(host)
                if (Action.LOCK, host) in trouble:
                    break
    return hosts
