"""Lines of training logs that differ in digits alone are read once, with the same result."""

from __future__ import annotations

import random

import pytest

from ringtasks.training.logs.line_parser import parse_line
from ringtasks.training.logs.parsed import Parsed
from ringtasks.training.logs.template_cache import TemplateCache


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([f"step: {n},567 loss: 0.5" for n in (0, 0, 0, 1, 0, 2)], id="thousands"),
        pytest.param([f"step: {n}_567 loss: 0.5" for n in (0, 0, 0, 1, 0, 2)], id="underscores"),
        pytest.param([f"step 3 f{n}: 0.5" for n in (1, 1, 1, 2, 1, 2)], id="digit in a name"),
        pytest.param([f"step 3 mAP50-{n}5: 0.5" for n in (9, 9, 9, 7, 9)], id="range in a name"),
        pytest.param([f"step 3 mAP@0.{n}: 0.5" for n in (5, 5, 5, 7, 5)], id="share in a name"),
        pytest.param([f"step 3 loss/{n}: 0.5" for n in (1, 1, 1, 2, 1, 2)], id="digit behind /"),
        pytest.param([f'{{"step": 3, "top {n}": 0.5}}' for n in (1, 1, 1, 5, 1)], id="key of dict"),
        pytest.param([f"top {n} loss at step 3: 0.5" for n in (1, 1, 1, 5, 1)], id="sentence"),
        pytest.param([f"step {n} loss: 0.{n}" for n in range(10)], id="plain"),
        pytest.param([f"updates={n} loss: 1" for n in (7.5, 7.6, 7.7, 7.0)], id="count in full"),
    ],
)
def test_cached_template_gives_the_same_result_as_parsing(lines: list[str]) -> None:
    remembering = TemplateCache(parse_line)

    assert [remembering(line) for line in lines] == [parse_line(line) for line in lines]


def test_line_of_a_known_template_is_not_parsed_again() -> None:
    read: list[str] = []

    def reader(text: str) -> Parsed:
        read.append(text)
        return parse_line(text)

    remembering = TemplateCache(reader)
    for n in range(100, 200):
        remembering(f"2026-01-01T10:{n % 60:02}:00,{n} INFO step {n} mAP50-95: 0.{n}")

    assert len(read) == 4  # twice, with other digits, and with zeros


@pytest.mark.parametrize(
    "line",
    [
        "step {a} loss: {x} lr={y}",
        "{{'loss': {x}, 'grad_norm': {y}, 'epoch': {x}}}",
        "Epoch {a}/{b} | loss {x} (avg {y}) | {a}% | acc@{b} {x}",
        "10:0{b}:{a} 2026-{b}-{a} [{a}/{b}] loss={x},{y} v{a}.{b}",
        "iter {a},{b} tokens: {a}_000 loss: -{x} 1e-{b}",
        "rank{a}: top {b} error {x}; step {a} of {b}, loss {y}",
        "[{a}]\tloss: {x} [{y}, {x}] f{b}: {a}",
    ],
)
def test_template_of_a_known_shape_gives_the_same_result_as_parsing(line: str) -> None:
    chance = random.Random(1)
    remembering = TemplateCache(parse_line, Parsed.moved)

    for _ in range(400):
        a, b = chance.randrange(10 ** chance.randrange(1, 6)), chance.randrange(1, 200)
        x, y = (chance.random() * 10 ** chance.randrange(-6, 5) for _ in "xy")
        text = line.format(a=a, b=b, x=x, y=f"{y:.{chance.randrange(1, 9)}f}")
        assert remembering(text) == parse_line(text)


def test_line_of_a_known_shape_is_not_parsed() -> None:
    read: list[str] = []

    def reader(text: str) -> Parsed:
        read.append(text)
        return parse_line(text)

    remembering = TemplateCache(reader, Parsed.moved)
    for width in range(1, 50):
        for _ in range(2):
            remembering(f"step {'9' * width} loss: 0.5")

    assert len(read) < 12
