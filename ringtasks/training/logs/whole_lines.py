"""Lines of trainers that have a layout of their own, read by one pattern each.  Pure."""

from __future__ import annotations

import re

from .numbers import NUMBER
from .parsed import Parsed, ParsedPosition, Value
from .words import SPLITS

__all__ = ["parse_whole_line"]

_UNITS = ("epoch", "step", "batch")
# Kaldi, nnet-training.cc
_OBJECTIVE = (
    r".*objective function for '{}'(?: for minibatches \d+-(?P<batch>\d+))? "
    r"is (?P<{}>[-+.\de]+) over [\d.]+ frames"
).format

#: A text that each such line has, and its pattern: groups are units, or names of metrics; a
#: ``label`` stands before these names.
_LINES = [
    (text, re.compile(pattern, re.ASCII))
    for text, pattern in (
        # darknet, examples/detector.c: "18: 799.0, 810.4 avg, 0.001 rate, 1.1 seconds, 2304 images"
        (
            " avg",
            rf"\s*(?P<step>\d+): (?P<loss>{NUMBER}), (?P<avg_loss>{NUMBER}) avg(?: loss)?, "
            rf"(?P<learning_rate>{NUMBER}) rate, .* images",
        ),
        # Each of its layers prints means of a part of the batch, under the same names.
        ("Region ", r"\s*(?:v3 \(.*)?Region \d+ Avg "),
        # llm.c, main.log: "s:10 trl:9.5 lr:0.0001 norm:1.2", "s:250 tel:6.5"
        ("s:", rf"s:(?P<step>\d+) trl:(?P<trl>{NUMBER})(?: lr:(?P<lr>\S+) norm:(?P<norm>\S+))?\Z"),
        ("s:", rf"s:(?P<step>\d+) tel:(?P<tel>{NUMBER})\Z"),
        ("Average objective f", _OBJECTIVE("output", "objective")),
        ("Average objective f", _OBJECTIVE("output-xent", "objective_xent")),
        ("Overall average objective f", _OBJECTIVE("output", "overall_objective")),
        ("Overall average objective f", _OBJECTIVE("output-xent", "overall_objective_xent")),
        # ML-Agents: each behaviour has a curve.
        (
            " Time Elapsed: ",
            rf".*?(?P<label>[\w-]+)(?:\.|:) Step: (?P<step>\d+)\. Time Elapsed: [\d.]+ s\.? ?"
            rf"(?:Mean Reward: (?P<mean_reward>{NUMBER})\.\s.*)?",
        ),
        # ParlAI: these are counts so far.
        (" total_exs:", r".*\btime:\d+s total_exs:\d+(?: total_steps:(?P<step>\d+))?"),
        # rl_games: frames per second of three parts of the work
        ("fps step: ", r"fps step: \d+(?:.*\bepoch: (?P<epoch>\d+)(?:/(?P<epoch_total>\d+))?)?"),
    )
]
# PyTorch's CIFAR tutorial, DeiT, Swin: "Accuracy of the network on the 10000 test images: 55 %".
_ACCURACY = re.compile(
    r".*\bAccuracy (?:at epoch (?P<epoch>\d+) )?(?P<of>of the (?:network|model|net) )?on (?:the )?"
    rf"(?:\d+ )?(?:(?P<split>{SPLITS})[ -])?(?:images|samples|examples|data|set)\b(?: \w+)?: "
    rf"(?P<number>{NUMBER})",
    re.ASCII | re.IGNORECASE,
)
# DINO: "20-NN classifier result: Top1: 74.1, Top5: 89.2"
_NEIGHBOURS = re.compile(
    rf"(\d+)-NN classifier result: Top1: (?P<top1>{NUMBER}), Top5: (?P<top5>{NUMBER})", re.ASCII
)
# pycocotools and lvis: " Average Precision  (AP) @[ IoU=0.50 | area= all | maxDets=100 ] = 0.5".
_COCO = re.compile(
    r".*\((?P<kind>AP|AR)\) @\[ IoU=(?P<iou>[\d.]+(?::[\d.]+)?)\s*\| area=\s*(?P<area>\w+) \| "
    rf"maxDets=\s*(?P<most>-?\d+)(?: catIds=\s*(?P<classes>\w+))?\s*\] = (?P<number>{NUMBER})",
    re.ASCII,
)


def parse_whole_line(text: str) -> Parsed | None:
    """Return the content of a line that has one of these layouts; None if it has none."""
    if "@[ IoU=" in text and (found := _COCO.match(text)):
        value = Value(_name_of_coco(found), found.span("number"))
        return Parsed(values=() if found["number"].startswith("-") else (value,))
    found = _ACCURACY.match(text) if "ccuracy " in text else None
    if found and (found["of"] or found["split"]):
        name = f"{(found['split'] or 'test').lower()}_accuracy"
        epoch = [ParsedPosition("epoch", found.span("epoch"))] if found["epoch"] else []
        return Parsed(tuple(epoch), (Value(name, found.span("number")),))
    if found := _NEIGHBOURS.match(text):
        names = ("top1", "top5")
        return Parsed(values=tuple(Value(f"{found[1]}-nn_{n}", found.span(n)) for n in names))
    for part, pattern in _LINES:
        if part in text and (found := pattern.match(text)):
            return _parsed(found)
    return None


def _parsed(found: re.Match[str]) -> Parsed:
    names = [name for name, text in found.groupdict().items() if text is not None]
    positions = [
        ParsedPosition(
            name,
            found.span(name),
            found.span(f"{name}_total") if f"{name}_total" in names else None,
        )
        for name in names
        if name in _UNITS
    ]
    kept = [n for n in names if n not in (*_UNITS, "label") and not n.endswith("_total")]
    label = f"{found['label']}/" if "label" in names else ""
    values = [Value(label + name, found.span(name)) for name in kept]
    return Parsed(tuple(positions), tuple(values))


def _name_of_coco(found: re.Match[str]) -> str:
    """Return a name for each row of the table: -1 there stands for objects that do not exist."""
    name = f"{found['kind']}@{found['iou']}"
    if found["area"] != "all":
        name += f"_{found['area']}"
    if found["classes"] not in (None, "all"):
        name += f"_{found['classes']}"
    return name if found["kind"] == "AP" else f"{name}_{found['most']}"
