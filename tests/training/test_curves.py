"""Curves of runs, and what is drawn of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ringtasks.errors import UsageError
from ringtasks.output.plots.selection import select_curves
from ringtasks.training.curves import Curve, Curves
from ringtasks.training.records import LogCopy
from tests.support.training import curves_of

EVENTS = Path(__file__).parents[1] / "logs" / "files" / "events.out.tfevents.tensorboard"


def test_curve_uses_steps_if_they_only_increase_and_epochs_otherwise() -> None:
    assert curves_of([[b"step 1 loss=3\nstep 2 loss=2\n"]]).curve("loss").axis == "step"
    restarting = curves_of(
        [[b"epoch 1 step 1 loss=3\nepoch 1 step 2 loss=2\nepoch 2 step 1 loss=1\n"]]
    ).curve("loss")
    assert (restarting.axis, restarting.xs) == ("epoch", (0.5, 1, 1.5))
    assert curves_of([[b"loss=3\nloss=2\n"]]).curve("loss") == Curve(
        "loss", "reading", (1, 2), (3, 2)
    )


def test_result_that_a_script_prints_again_is_one_point() -> None:
    log = "{'eval_loss': '2.5', 'epoch': '0.5'}\n{'eval_loss': '2.21', 'epoch': '1'}\n"

    again = curves_of([[f"{log}{{'eval_loss': 2.209774, 'epoch': 1.0}}\n".encode()]])
    other = curves_of([[f"{log}{{'eval_loss': 2.109774, 'epoch': 1.0}}\n".encode()]])

    assert again.curve("eval_loss") == Curve("eval_loss", "epoch", (0.5, 1), (2.5, 2.21))
    assert other.curve("eval_loss").axis == "reading"


def test_single_value_comes_behind_the_curves_of_training() -> None:
    steps = "".join(
        f"[train] step: {n}, loss: {9 - n}\n[test] step: {n}, loss: 9\n" for n in (1, 2)
    )
    last = "metrics after 2 steps: {'loss': 7.0, 'accuracy': 0.5}\n"

    assert curves_of([[(steps + last).encode()]]).main == "train_loss"
    assert curves_of([[b"step 1 loss: 3 train_loss: 2\n"]]).main == "loss"


def test_resumed_attempt_replaces_later_points_of_the_previous_one() -> None:
    curves = Curves()
    curves.feed(b"epoch 1/9 loss=5\nepoch 2/9 loss=4\nepoch 3/9 loss=3.5\nepoch 4/9 lo")
    curves.new_attempt()
    curves.feed(b"epoch 3/9 loss=3\nepoch 4/9 loss=2\n")

    assert curves.curve("loss") == Curve("loss", "epoch", (1, 2, 3, 4), (5, 4, 3, 2))


def test_number_at_the_end_of_a_log_that_may_go_on_is_left_out(tmp_path: Path) -> None:
    text = b"step 1 loss=0.5\nstep 2 loss=0.25 acc=0.7"  # of 0.75
    log = tmp_path / "attempt-1.log"
    log.write_bytes(text)
    cut, whole = Curves(), Curves()

    cut.read_attempts([[log]], is_cut=True)
    whole.read_attempts([[log]])

    assert (cut.names, cut.curve("loss").ys) == (["loss"], (0.5, 0.25))
    assert whole.curve("acc").ys == (0.7,)


@pytest.mark.parametrize("end", ["", "4", "4567 "])
def test_number_that_a_terminal_has_cut_at_the_end_of_a_log_is_left_out(end: str) -> None:
    curves = Curves()
    lines = [f"step {n} " + "loss: 0.3".rjust(73) + "\n4567 acc: 1\n" for n in (1, 2, 3)]

    curves.feed("".join(lines).removesuffix("4567 acc: 1\n").encode() + end.encode())
    curves.end(is_cut=True)

    assert curves.curve("loss").ys == (0.34567,) * (3 if end[3:] else 2)


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


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["2026-11-26 23:59:50,500 epoch 1 loss=3", "2026-11-27 00:00:10 epoch 2 loss=2"], 19.5),
        (
            ["2026/11/30T10:00:00Z INFO epoch 1 loss=3", "2026/12/01T10:00:01Z epoch 2 loss=2"],
            86401,
        ),
        (["[23:59:58] epoch 1 loss=3", "[00:00:03] epoch 2 loss=2"], 5),
        (
            ["10/31 10:00:00 - mmengine - epoch 1 loss: 3", "11/01 10:00:00 - epoch 2 loss: 2"],
            86400,
        ),
        (
            [
                "I1126 10:00:00.250000 1 a.py:1] epoch 1 loss=3",
                "I1126 10:00:01.500000 1 a.py:1] loss=2",
            ],
            1.25,
        ),
        (
            [
                '{"ts": 1764150000.5, "step": 1, "loss": 3}',
                '{"ts": 1764150002, "step": 2, "loss": 2}',
            ],
            1.5,
        ),
        (
            [
                '{"time": "2026-11-26T10:00:00", "step": 1, "loss": 3}',
                '{"time": "2026-11-26T11:00:00", "step": 2, "loss": 2}',
            ],
            3600,
        ),
    ],
)
def test_curve_over_time_has_the_seconds_between_the_stamps_of_its_lines(
    lines: list[str], seconds: float
) -> None:
    curves = Curves(has_stamps=True)
    curves.feed("\n".join([*lines, ""]).encode())

    assert curves.curve("loss", "time") == Curve("loss", "time", (0, seconds), (3, 2))


@pytest.mark.parametrize(
    "log",
    [
        b"10:00:00 epoch 1 loss=3\nepoch 2 loss=2\n",
        b"10:00:05 epoch 1 loss=3\n10:00:00 epoch 2 loss=2\n",
        b"epoch 1 loss=3\nepoch 2 loss=2\n",
        b"13/45/2026 10:00 epoch 1 loss=3\n2026-13-45 10:00:00 epoch 2 loss=2\n",
    ],
    ids=["a line without one", "backwards", "none", "no date"],
)
def test_curve_is_not_drawn_over_time_if_a_value_has_no_certain_time(log: bytes) -> None:
    curves = Curves(has_stamps=True)
    curves.feed(log)

    assert curves.curve("loss", "time").axis == "epoch"
    with pytest.raises(UsageError, match="--axis time: the lines of a bear no time"):
        select_curves({"a": curves}, "loss", "time")


def test_local_copy_of_a_log_tells_when_each_of_its_values_came(tmp_path: Path) -> None:
    log = tmp_path / "attempt-1.log"
    first = b"epoch 1 loss=3\n"
    log.write_bytes(first + b"epoch 2 loss=2\nepoch 3 loss=1\n")
    Path(f"{log}.times").write_text(f"{len(first)} 100.0\n{2 * len(first)} 160.5\nx\n45 170\n")
    curves = Curves()
    curves.read_attempts([[log]], with_arrivals=True)

    assert curves.curve("loss", "time") == Curve("loss", "time", (0, 60.5, 70), (3, 2, 1))


def test_output_of_the_time_before_a_copy_is_continued_has_no_time(tmp_path: Path) -> None:
    log = tmp_path / "attempt-1.log"
    with LogCopy(log) as copy:
        copy.write(b"epoch 1 loss=3\n")
    with LogCopy(log) as copy:  # as after a run that went on alone
        copy.write(b"epoch 1 loss=3\nepoch 2 loss=2\n")
    curves = Curves()
    curves.read_attempts([[log]], with_arrivals=True)

    sizes = [line.split() for line in Path(f"{log}.times").read_text().splitlines()]
    assert [size for size, _ in sizes] == ["15", "30"]
    assert float(sizes[0][1]) == pytest.approx(time.time(), abs=60)
    assert sizes[1][1] == "-"
    assert curves.curve("loss", "time").axis == "epoch"


def test_events_of_tensorboard_are_drawn_over_their_own_times() -> None:
    curves = Curves()
    curves.read_file(EVENTS)

    drawn = curves.curve(curves.names[0], "time")
    assert drawn.axis == "time"
    assert drawn.xs[0] == 0
    assert list(drawn.xs) == sorted(drawn.xs)


@pytest.mark.parametrize(
    "log",
    [
        b"step 1 tps 1,234 memory: 46.57 mfu: 3.31%\n",
        b"step 1 lr: 0.1 grad_norm: 1.5\n",
        b"Epoch[0] Time cost=10.1 Batch [9] Speed: 12.5 samples/sec Updates/sec=10.5\n",
        b"step 1 wps=21000, ups=5.9, train_wall=17, gb_free=10.1\n",
        b"step 1 samples/sec: 520.1 tokens_per_second_per_gpu:1234.5 peak_memory_alloc:10.2\n",
        b"Train Epoch: 0 [10/99 (1%)] Data (t): 0.004 Batch (t): 0.583 LR: 0.1\n",
    ],
)
def test_rates_times_memory_and_settings_are_no_default_metric(log: bytes) -> None:
    curves = curves_of([[log]])
    both = curves_of([[log + b"step 2 quality: 0.5\n"]])

    with pytest.raises(UsageError, match=r"no measure of a model in the log of a; .*--metric "):
        select_curves({"a": curves}, None)
    assert both.main == "quality"
    assert not any("(t)" in name or "cost" in name for name in curves.names)
