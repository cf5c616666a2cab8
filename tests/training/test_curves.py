"""Curves of runs, and what is drawn of them."""

from __future__ import annotations

import pytest

from ringtasks.errors import UsageError
from ringtasks.output.plots.selection import select_curves
from ringtasks.training.curves import Curve, Curves, curves_of


def test_curve_uses_steps_if_they_only_increase_and_epochs_otherwise() -> None:
    assert curves_of([[b"step 1 loss=3\nstep 2 loss=2\n"]]).curve("loss").axis == "step"
    restarting = curves_of(
        [[b"epoch 1 step 1 loss=3\nepoch 1 step 2 loss=2\nepoch 2 step 1 loss=1\n"]]
    ).curve("loss")
    assert (restarting.axis, restarting.xs) == ("epoch", (0.5, 1, 1.5))
    assert curves_of([[b"loss=3\nloss=2\n"]]).curve("loss") == Curve(
        "loss", "reading", (1, 2), (3, 2)
    )


def test_resumed_attempt_replaces_later_points_of_the_previous_one() -> None:
    curves = Curves()
    curves.feed(b"epoch 1/9 loss=5\nepoch 2/9 loss=4\nepoch 3/9 loss=3.5\nepoch 4/9 lo")
    curves.new_attempt()
    curves.feed(b"epoch 3/9 loss=3\nepoch 4/9 loss=2\n")

    assert curves.curve("loss") == Curve("loss", "epoch", (1, 2, 3, 4), (5, 4, 3, 2))


def test_logs_of_several_hosts_and_attempts_are_kept_separate() -> None:
    curves = Curves()
    curves.feed(b"[rank 0]: epoch 1/2 lo", "a")
    curves.feed(b"[rank 1]: epoch 1/2 loss=9\n", "b")
    curves.feed(b"ss=4\n", "a")

    assert curves.curve("loss").ys == (4,)
    whole = curves_of([[b"epoch 1/3 loss=4\nepoch 2/3 loss=3"], [b"", b"epoch 2/3 loss=2\n"]])
    assert whole.curve("loss") == Curve("loss", "epoch", (1, 2), (4, 2))


def test_loss_is_listed_first_among_the_metrics() -> None:
    assert curves_of([[b"lr=1 val_loss=2 loss=3\n"]]).names == ["loss", "val_loss", "lr"]


def test_long_curve_is_downsampled_and_keeps_its_end_points() -> None:
    log = b"".join(b"step %d loss=%d\n" % (n, n) for n in range(30_000))

    curve = curves_of([[log]]).curve("loss")

    assert 1000 < len(curve.xs) <= 8192
    assert (curve.xs[0], curve.xs[-1]) == (0, 29_999)


def test_curves_are_selected_case_insensitively_and_labelled_by_differences() -> None:
    one, two = curves_of([[b"Loss=1 acc=2\n"]]), curves_of([[b"Loss=3 acc=4\n"]])

    assert list(select_curves({"a": one}, None)) == ["Loss"]
    assert list(select_curves({"a": one, "b": two}, "loss")) == ["a Loss", "b Loss"]
    assert list(select_curves({"a": one, "b": two}, "*")) == ["a Loss", "a acc", "b Loss", "b acc"]
    with pytest.raises(UsageError, match="no such metric; there are: Loss, acc"):
        select_curves({"a": one}, "los")
    with pytest.raises(UsageError, match="no metrics in the log of a"):
        select_curves({"a": curves_of([[b"hello\n"]])}, None)


def test_curve_is_drawn_over_the_requested_axis_if_the_log_has_it() -> None:
    log = b"epoch 1 step 5 loss=3\nepoch 2 step 9 loss=2\n"
    runs = {"a": curves_of([[log]])}

    assert select_curves(runs, "loss")["loss"].axis == "step"
    assert select_curves(runs, "loss", "epoch")["loss"].axis == "epoch"
    with pytest.raises(UsageError, match="--axis round: the log of a gives no round"):
        select_curves(runs, "loss", "round")
