"""Steps of transformers' Trainer, which prints dicts with a rounded epoch, and a bar."""

from __future__ import annotations

import math

import pytest

from tests.support.training import curves_of

ROUNDED = {
    "two decimals": lambda epoch: str(round(epoch, 2)),
    "exact": repr,
    "four digits": lambda epoch: f"'{epoch:.4g}'",
}


def log_of(
    batches: int, accumulated: int, epochs: int, rounding: str, *, order: str, is_cut: bool
) -> str:
    """Return what a run prints that logs every fifth step.

    :param order: ``"together"``, or the ``"bar"`` before all dicts, as two streams arrive.
    :param is_cut: leave the last batches of an epoch out, as transformers 4 did.
    """
    length = batches // accumulated if is_cut else math.ceil(batches / accumulated)
    bars, dicts, lines = [], [], []
    for step in range(1, length * epochs + 1):
        epoch, part = divmod(step - 1, length)
        at = ROUNDED[rounding](epoch + min((part + 1) * accumulated, batches) / batches)
        bar = f"\r {step}%|#| {step}/{length * epochs} [00:10<00:10,  1.0it/s]\n"
        bars.append(bar)
        lines.append(bar)
        if step % 5 == 0:
            dicts.append(f"{{'loss': {step / 100}, 'grad_norm': 1.5, 'epoch': {at}}}\n")
            lines += [dicts[-1], bar]
    end = f"{{'train_runtime': 9.5, 'train_loss': 0.5, 'epoch': {at}}}\n"
    return "".join([*lines, end] if order == "together" else [*bars, *dicts, end])


@pytest.mark.parametrize("is_cut", [False, True], ids=["last step shorter", "left out"])
@pytest.mark.parametrize("rounding", ROUNDED)
@pytest.mark.parametrize(
    ("batches", "accumulated", "epochs", "order"),
    [
        pytest.param(8939, 64, 2, "together", id="long"),
        pytest.param(101, 4, 3, "together", id="short"),
        pytest.param(64, 4, 3, "together", id="even"),
        pytest.param(101, 4, 3, "bar", id="bar first, short"),
        pytest.param(64, 4, 3, "bar", id="bar first, even"),
    ],
)
def test_accumulated_steps_are_those_of_the_bar(
    batches: int, accumulated: int, epochs: int, order: str, rounding: str, *, is_cut: bool
) -> None:
    log = log_of(batches, accumulated, epochs, rounding, order=order, is_cut=is_cut)

    points = [*curves_of([[log.encode()]]).objects("loss")]

    assert len(points) == int(points[-1]["value"] * 100 / 5 + 0.5)
    assert [point.get("step") for point in points] == [
        pytest.approx(point["value"] * 100) for point in points
    ]


@pytest.mark.parametrize("is_cut", [False, True], ids=["last step shorter", "left out"])
@pytest.mark.parametrize("rounding", ROUNDED)
@pytest.mark.parametrize(("batches", "accumulated"), [(5003, 32), (2999, 16), (8939, 64)])
def test_accumulated_steps_behind_the_bar_are_right_or_left_out(
    batches: int, accumulated: int, rounding: str, *, is_cut: bool
) -> None:
    log = log_of(batches, accumulated, 5, rounding, order="bar", is_cut=is_cut)

    points = [*curves_of([[log.encode()]]).objects("loss")]

    steps = [(point.get("step"), point["value"] * 100) for point in points]
    assert [step for step, _ in steps if step is not None] == [
        pytest.approx(true) for step, true in steps if step is not None
    ]
    assert rounding == "two decimals" or all(step is not None for step, _ in steps)
