"""Curves of runs, and what is drawn of them."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ringtasks.errors import UsageError
from ringtasks.output.plots import figure, svg, terminal
from ringtasks.output.plots.selection import select_curves
from ringtasks.training.curves import Curve, Curves, curves_of
from tests.support.training import needs


def test_a_curve_runs_over_steps_if_they_only_grow_and_over_epochs_otherwise() -> None:
    assert curves_of([[b"step 1 loss=3\nstep 2 loss=2\n"]]).curve("loss").axis == "step"
    restarting = curves_of(
        [[b"epoch 1 step 1 loss=3\nepoch 1 step 2 loss=2\nepoch 2 step 1 loss=1\n"]]
    ).curve("loss")
    assert (restarting.axis, restarting.xs) == ("epoch", (0.5, 1, 1.5))
    assert curves_of([[b"loss=3\nloss=2\n"]]).curve("loss") == Curve(
        "loss", "reading", (1, 2), (3, 2)
    )


def test_an_attempt_that_starts_from_a_checkpoint_replaces_what_lies_ahead_of_it() -> None:
    curves = Curves()
    curves.feed(b"epoch 1/9 loss=5\nepoch 2/9 loss=4\nepoch 3/9 loss=3.5\nepoch 4/9 lo")
    curves.new_attempt()
    curves.feed(b"epoch 3/9 loss=3\nepoch 4/9 loss=2\n")

    assert curves.curve("loss") == Curve("loss", "epoch", (1, 2, 3, 4), (5, 4, 3, 2))


def test_logs_of_several_hosts_do_not_mix_and_each_attempt_has_its_own() -> None:
    curves = Curves()
    curves.feed(b"[rank 0]: epoch 1/2 lo", "a")
    curves.feed(b"[rank 1]: epoch 1/2 loss=9\n", "b")
    curves.feed(b"ss=4\n", "a")

    assert curves.curve("loss").ys == (4,)
    whole = curves_of([[b"epoch 1/3 loss=4\nepoch 2/3 loss=3"], [b"", b"epoch 2/3 loss=2\n"]])
    assert whole.curve("loss") == Curve("loss", "epoch", (1, 2), (4, 2))


def test_a_loss_comes_first_among_the_metrics() -> None:
    assert curves_of([[b"lr=1 val_loss=2 loss=3\n"]]).names == ["loss", "val_loss", "lr"]


def test_a_long_run_is_thinned_out_and_keeps_its_ends() -> None:
    log = b"".join(b"step %d loss=%d\n" % (n, n) for n in range(30_000))

    curve = curves_of([[log]]).curve("loss")

    assert 1000 < len(curve.xs) <= 8192
    assert (curve.xs[0], curve.xs[-1]) == (0, 29_999)


def test_curves_are_chosen_by_name_in_any_case_and_labelled_by_what_differs() -> None:
    one, two = curves_of([[b"Loss=1 acc=2\n"]]), curves_of([[b"Loss=3 acc=4\n"]])

    assert list(select_curves({"a": one}, None)) == ["Loss"]
    assert list(select_curves({"a": one, "b": two}, "loss")) == ["a Loss", "b Loss"]
    assert list(select_curves({"a": one, "b": two}, "*")) == ["a Loss", "a acc", "b Loss", "b acc"]
    with pytest.raises(UsageError, match="no such metric; there are: Loss, acc"):
        select_curves({"a": one}, "los")
    with pytest.raises(UsageError, match="no metrics in the log of a"):
        select_curves({"a": curves_of([[b"hello\n"]])}, None)


def test_a_plot_in_the_terminal_goes_down_as_the_values_do() -> None:
    lines = terminal.draw(Curve("loss", "step", (0, 1), (1.0, 0.0)), 20, 3)

    assert [len(line) for line in lines] == [20, 20, 20]
    assert lines[0].startswith("        1▕")
    assert lines[0][10] != "⠀"
    assert lines[2][-1] != "⠀"
    assert lines[2][10] == lines[0][-1] == "⠀"
    assert lines[2].startswith("        0▕")


def test_values_that_are_no_numbers_leave_nothing_to_draw_or_a_gap() -> None:
    nothing = Curve("loss", "step", (0, 1), (math.nan, math.inf))
    gap = Curve("loss", "step", (0, 1, 2, 3, 4), (1, 2, math.nan, 3, 4))

    assert terminal.draw(nothing, 40, 4) == []
    with pytest.raises(ValueError, match="no metric has a finite value"):
        svg.draw({"loss": nothing}, "run")
    assert svg.draw({"loss": gap}, "run").count("<polyline") == 2


def test_a_picture_is_well_formed_whatever_the_log_calls_its_metrics() -> None:
    curve = Curve("loss", "step", (0, 1, 2), (3, 2, 1))

    tree = ElementTree.fromstring(svg.draw({'<b>"&\x1b': curve, "two": curve}, "a & b"))

    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert '<b>"&\ufffd' in texts
    assert "a & b" in texts
    (first, _) = tree.findall("{http://www.w3.org/2000/svg}polyline")
    heights = [float(point.split(",")[1]) for point in first.attrib["points"].split()]
    assert heights == sorted(heights)  # the picture's y goes down
    assert len(set(heights)) == 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 60, [0, 10, 20, 30, 40, 50, 60]), (3, 3, [3])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_ticks_are_few_and_inside_whatever_the_range() -> None:
    rng = random.Random(1)
    for _ in range(200):
        low = rng.uniform(-1, 1) * 10 ** rng.randint(-8, 8)
        high = low + 10 ** rng.uniform(-8, 8)
        if not high > low:
            continue
        found = svg.ticks(low, high)
        assert 1 <= len(found) <= 13
        slack = (high - low) * 1e-6
        assert all(low - slack <= tick <= high + slack for tick in found)


def test_a_page_needs_no_other_file(tmp_path: Path) -> None:
    curve = Curve("loss", "step", (0, 1, 2), (3, 1, 2))

    figure.write({"<loss>": curve}, "run", tmp_path / "run.html")

    page = (tmp_path / "run.html").read_text()
    assert "<svg" in page
    assert "&lt;loss&gt;</td><td>3</td><td>1</td><td>3</td><td>2</td>" in page
    assert "src=" not in page


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run.gif", "expected a name that ends with .svg, .png, .html"),
        ("none/run.svg", "there is no folder"),
    ],
)
def test_a_file_that_cannot_be_drawn_is_a_usage_error(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        figure.write({"a": Curve("a", "step", (0,), (1,))}, "run", tmp_path / name)


def test_png_needs_matplotlib_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as where it is not installed

    with pytest.raises(UsageError, match=r"pip install 'ringtasks\[plot\]'"):
        figure.write({"a": Curve("a", "step", (0, 1), (1, 0))}, "run", tmp_path / "run.png")

    assert not (tmp_path / "run.png").exists()


@pytest.mark.heavy
def test_png_is_drawn_by_matplotlib_whatever_the_log_calls_its_metrics(tmp_path: Path) -> None:
    needs("matplotlib")
    curve = Curve("loss", "step", (0, 1, 2), (1, math.nan, 0))

    figure.write({"_cost$": curve, "$x^": curve}, "run $1", tmp_path / "run.png")

    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
