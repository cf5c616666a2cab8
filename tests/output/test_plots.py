"""Curves as pictures: in the terminal, as SVG and PNG, and as a page in a browser."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ringtasks.errors import UsageError
from ringtasks.output.plots import figure, terminal
from ringtasks.output.plots.chart import Chart, Style, ticks
from ringtasks.training.curves import Curve
from tests.support.training import needs_program

FALLING = Curve("loss", "epoch", (1, 2, 3), (3.0, 1.0, 2.0))
SVG = "{http://www.w3.org/2000/svg}"


def chart_of(*curves: Curve, style: Style | None = None) -> Chart:
    return Chart.of({f"run {curve.name}": curve for curve in curves}, "run", style or Style())


# --- the content ------------------------------------------------------------------------------


def test_plot_has_a_panel_per_metric_with_a_line_per_run() -> None:
    accuracy = Curve("acc", "epoch", (1, 2), (0.1, 0.2))
    curves = {"a loss": FALLING, "b loss": FALLING, "a acc": accuracy}

    panels = Chart.of(curves, "a, b", Style()).panels

    assert [(panel.metric, [line.label for line in panel.lines]) for panel in panels] == [
        ("loss", ["a loss", "b loss"]), ("acc", ["a acc"]),
    ]  # fmt: skip
    assert len({line.colour for line in panels[0].lines}) == 2


def test_smoothing_is_not_biased_towards_the_first_value() -> None:
    curve = Curve("loss", "step", (0, 1, 2, 3), (2.0, math.nan, 4.0, 4.0))

    (line,) = chart_of(curve, style=Style(smooth=0.5)).panels[0].lines

    assert line.ys == pytest.approx([2, math.nan, 10 / 3, 26 / 7], nan_ok=True)
    assert line.raw == curve.ys


def test_values_outside_the_scale_are_dropped_and_an_empty_curve_is_reported() -> None:
    curve = Curve("loss", "step", (0, 1, 2), (0.0, math.nan, 4.0))

    (line,) = chart_of(curve, style=Style(is_log=True)).panels[0].lines
    assert line.points == [(2, 4.0)]
    with pytest.raises(UsageError, match="no metric has a finite value above 0"):
        chart_of(Curve("loss", "step", (0, 1), (0.0, -1.0)), style=Style(is_log=True))
    with pytest.raises(UsageError, match="no metric has a finite value"):
        chart_of(Curve("loss", "step", (0, 1), (math.nan, math.inf)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 60, [0, 10, 20, 30, 40, 50, 60]), (3, 3, [3])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_are_few_and_inside_any_range() -> None:
    rng = random.Random(1)
    for _ in range(200):
        low = rng.uniform(-1, 1) * 10 ** rng.randint(-8, 8)
        high = low + 10 ** rng.uniform(-8, 8)
        if not high > low:
            continue
        found = ticks(low, high)
        assert 1 <= len(found) <= 13
        slack = (high - low) * 1e-6
        assert all(low - slack <= tick <= high + slack for tick in found)


# --- the terminal -----------------------------------------------------------------------------


def test_terminal_plot_falls_with_falling_values() -> None:
    panel = chart_of(Curve("loss", "step", (0, 1), (1.0, 0.0))).panels[0]

    lines = terminal.draw(panel.lines, 20, 3)

    assert [len(line) for line in lines] == [20, 20, 20]
    assert lines[0].startswith("        1▕")
    assert lines[0][10] != "⠀"
    assert lines[2][-1] != "⠀"
    assert lines[2][10] == lines[0][-1] == "⠀"
    assert lines[2].startswith("        0▕")


def test_terminal_panel_labels_the_metric_the_axis_and_whole_epochs() -> None:
    lines = terminal.draw_panel(chart_of(FALLING).panels[0], 60, 4)

    assert lines[0] == "loss"
    assert lines[-2].split() == ["1", "2", "3"]
    assert lines[-1].split() == ["epoch"]


def test_terminal_plot_labels_each_end_of_y_and_the_value_of_a_constant_curve() -> None:
    def labels(*ys: float) -> list[str]:
        (panel,) = chart_of(Curve("loss", "step", (0, 1), ys)).panels
        lines = terminal.draw(panel.lines, 40, 4)
        assert {len(line) for line in lines} == {40}
        return [line.split("▕")[0].strip() for line in lines]

    assert labels(0.25, 0.25) == ["", "", "0.25", ""]
    assert labels(1, 1 + 1e-11) == ["1.00000000001", "", "", "1"]
    assert labels(1.234e-299, 1.234e299) == ["1.234e+299", "", "", "1.234e-299"]


def test_logarithmic_plot_centres_the_geometric_mean() -> None:
    curve = Curve("loss", "step", (0, 1, 2), (100.0, 10.0, 1.0))

    lines = terminal.draw(chart_of(curve).panels[0].lines, 31, 3, is_log=True)

    assert lines[1][9 + 11] != "⠀"


def test_values_that_a_logarithmic_axis_cannot_show_are_figures_all_the_same(
    tmp_path: Path,
) -> None:
    curve = Curve("loss", "step", (0, 1, 2), (4.0, 1.0, -0.5))
    style = Style(is_log=True, smooth=0.5)

    figure.write({"run loss": curve}, "run", tmp_path / "run.html", style)

    (line,) = chart_of(curve, style=style).panels[0].lines
    assert terminal.legend(line, 0) == "run loss: last -0.5"
    row = "<td>run loss</td><td>4</td><td>-0.5</td><td>4</td><td>-0.5</td>"
    assert row in (tmp_path / "run.html").read_text()


def test_point_between_values_that_cannot_be_drawn_is_marked() -> None:
    def has_lone_points(*ys: float) -> bool:
        (panel,) = chart_of(Curve("loss", "step", tuple(range(len(ys))), ys)).panels
        return panel.lines[0].has_lone_points

    assert has_lone_points(1)
    assert has_lone_points(1, 1, math.nan, 1, math.inf, 1, 1)
    assert not has_lone_points(1, 1, math.nan, 1, 1)


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run.gif", "expected a name that ends with .svg, .png, .html"),
        ("none/run.svg", "there is no folder"),
    ],
)
def test_file_that_cannot_be_plotted_is_a_usage_error(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        figure.write({"a": FALLING}, "run", tmp_path / name)


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    ("name", "module"), [("run.svg", "matplotlib.figure"), ("run.html", "plotly.offline")]
)
def test_missing_plot_library_is_named_with_its_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it is not installed

    with pytest.raises(UsageError, match=r"pip install 'ringtasks\[plot\]'"):
        figure.write({"a": FALLING}, "run", tmp_path / name)

    assert not (tmp_path / name).exists()


def test_plot_image_labels_axes_runs_metrics_and_whole_epochs(tmp_path: Path) -> None:
    curves = {'a <b>"&\x1b$x^': FALLING, "_b": FALLING, "a acc": FALLING._replace(name="acc")}

    figure.write(curves, "a & $b", tmp_path / "run.svg", Style(theme="dark"))

    tree = ElementTree.parse(tmp_path / "run.svg")
    texts = [element.text for element in tree.iter(f"{SVG}text")]
    assert {"epoch", "loss", "acc", "a & $b"} <= set(texts)
    assert 'a <b>"&\ufffd$x^' in [text.lstrip("\u200b") for text in texts if text]
    ticks_of_x = [text for text in texts if text and re.fullmatch(r"\d+(\.\d+)?", text)]
    assert {"1", "2", "3"} <= set(ticks_of_x)
    assert not {"1.5", "2.5"} & set(ticks_of_x[: ticks_of_x.index("3")])


def test_png_is_drawn_for_any_metric_names(tmp_path: Path) -> None:
    gap = FALLING._replace(ys=(1, math.nan, 0))

    figure.write({"_cost$": gap, "$x^": gap}, "run $1", tmp_path / "run.png", Style(is_log=True))

    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["html", "svg", "png"])
def test_picture_replaces_a_planted_link_and_shows_any_name_and_value(
    tmp_path: Path, kind: str
) -> None:
    own, out = tmp_path / "own", tmp_path / f"run.{kind}"
    own.write_text("kept")
    out.symlink_to(own)
    wide = Curve("loss", "step", (1, 1e308, -1e308, 2), (1e308, -1e308, 2.0, 1.0))

    figure.write({"a\udcff": wide}, "b\udcff.log", out)

    assert own.read_text() == "kept"
    assert out.is_file()
    assert not out.is_symlink()


def test_terminal_plot_is_drawn_for_values_whose_distance_is_infinite() -> None:
    wide = Curve("loss", "step", (1, 2, 3, 4, 1e308), (1e308, -1e308, 1e300, -1e300, 1.0))

    (panel,) = chart_of(wide).panels

    assert len(terminal.draw_panel(panel, 60, 8)) == 11


def test_html_plot_is_self_contained_and_escapes_names(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>"

    figure.write({name: FALLING._replace(name=name)}, name, tmp_path / "run.html")

    page = (tmp_path / "run.html").read_text()
    assert "alert(1)</script><" not in page.replace("&lt;/script&gt;&lt;script&gt;", "")
    assert "default-src 'none'" in page
    assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=", page)
    assert "</td><td>3</td><td>1</td><td>3</td><td>2</td>" in page


# --- the page in a browser ----------------------------------------------------------------------

#: Moves the mouse, hides a line and zooms in, as a user does, and writes what is seen then.
USER = """
<script>
const chart = document.getElementById("chart");
const later = (ms) => new Promise((done) => setTimeout(done, ms));
function mouse(target, kind, x, y) {
  target.dispatchEvent(new MouseEvent(kind, {clientX: x, clientY: y, bubbles: true, view: window}));
}
async function use() {
  await later(1000);
  const seen = {};
  const texts = (selector) => [...chart.querySelectorAll(selector)].map((e) => e.textContent);
  seen.legend = texts(".legendtext");
  seen.axes = texts(".xtitle, .x2title, .ytitle, .y2title");
  seen.ticks = texts(".xtick text");
  seen.lines = chart.querySelectorAll(".scatterlayer .trace .js-line").length;
  const area = chart.querySelector(".nsewdrag");
  const box = area.getBoundingClientRect();
  const middle = [box.left + box.width / 2, box.top + box.height / 2];
  mouse(area, "mouseover", ...middle);
  mouse(area, "mousemove", ...middle);
  await later(500);
  seen.hover = texts(".hoverlayer .legendtext, .hoverlayer text");
  const before = [...chart._fullLayout.xaxis.range];
  mouse(area, "mousedown", box.left + 10, box.top + 10);
  mouse(document, "mousemove", ...middle);
  mouse(document, "mouseup", ...middle);
  await later(500);
  seen.ranges = [...before, ...chart._fullLayout.xaxis.range];
  const toggle = chart.querySelector(".legendtoggle");
  mouse(toggle, "mousedown", 5, 5);
  mouse(toggle, "mouseup", 5, 5);
  await later(800);
  seen.hidden = chart.data.map((trace) => trace.visible === "legendonly");
  const said = document.createElement("pre");
  said.id = "seen";
  said.textContent = JSON.stringify(seen);
  document.body.append(said);
}
use();
</script></body>"""


@pytest.mark.heavy
def test_html_plot_supports_hover_zoom_and_toggle_offline(
    tmp_path: Path,
) -> None:
    chromium = needs_program("chromium", "google-chrome")
    curves = {
        "a <loss>": FALLING, "b loss": FALLING._replace(ys=(2.0, math.nan, 1.0)),
        "a acc": FALLING._replace(name="acc"),
    }  # fmt: skip
    figure.write(curves, "a, b", tmp_path / "run.html", Style(theme="dark"))
    page = tmp_path / "used.html"
    page.write_text((tmp_path / "run.html").read_text().replace("</body>", USER))

    dom = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            f"--user-data-dir={tmp_path}/profile", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--window-size=1200,900", "--virtual-time-budget=20000", page.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=100,
    ).stdout  # fmt: skip

    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-3000:]
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["legend"] == ["a <loss>", "b loss", "a acc"]
    assert sorted(seen["axes"]) == ["acc", "epoch", "epoch", "loss"]
    assert {"1", "2", "3"} >= set(seen["ticks"])
    assert seen["lines"] == 4  # one has a gap
    assert any("epoch 2: 1" in text for text in seen["hover"]), seen["hover"]
    first, last, zoomed_first, zoomed_last = seen["ranges"]  # markers have a margin of their own
    assert first < zoomed_first < zoomed_last < 2.5 < last
    assert seen["hidden"] == [True, False, False]
