"""What a training program prints, read line by line: how far it is, and its metrics.  Pure.

Understood are JSON lines, ``name=0.12`` and ``name: 0.12`` (also inside a printed dict), nanoGPT's
``train loss 4.28``, ``epoch 3/100`` and its kin, and the bars of tqdm.  A line that says nothing of
the kind gives an empty Reading; no line is an error.  Of several ranks the first one is read: all
print the same metrics.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["LogLines", "Progress", "Reading", "read_line"]

#: Longer lines are no metrics: a base64 image, say. Looking through them would take long.
_MAX_LINE_CHARS = 4000

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf\b|nan\b"
# What may follow a number: not the rest of a time, a version, an address or a unit.
_END = r"(?![\w:/]|\.\d|-\d)"
_PAIR = re.compile(
    rf"""(?<![\w./\\-])["']?([A-Za-z_][\w./@-]*)["']?\s{{0,3}}[=:]\s{{0,3}}({_NUMBER}){_END}""",
    re.IGNORECASE,
)
# Names that are known well enough to need neither "=" nor ":".
_BARE = re.compile(
    rf"(?<![\w./-])((?:(?:train|val|valid|test|eval)[ _/-])?(?:loss|accuracy|acc|perplexity|ppl))"
    rf"\s{{1,3}}({_NUMBER}){_END}",
    re.IGNORECASE,
)
_UNITS = "epoch|step|iter|iteration|batch|round"
_OF = re.compile(
    rf"\b(?:global[ _])?({_UNITS})s?\b\s{{0,3}}[:=#]?\s{{0,3}}[\[(]?\s{{0,3}}(\d+(?:\.\d+)?)"
    r"\s{0,3}(?:/|of\b|out of\b)\s{0,3}(\d+)",
    re.IGNORECASE,
)
_AT = re.compile(
    rf"\b(?:global[ _])?({_UNITS})\s{{0,3}}[:=#]?\s{{0,3}}(\d+(?:\.\d+)?)\b(?!\s*%)", re.IGNORECASE
)
# tqdm/std.py, format_meter: "{l_bar}{bar}| {n_fmt}/{total_fmt} [".
_BAR = re.compile(r"\d+%\|[^|]*\|\s*(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")
_TOTAL_PREFIXES = ("", "total_", "num_", "max_")
# How torchrun labels the lines of ranks (torch/distributed/run.py, --tee), and we (`torchrun`).
_OTHER_RANK = re.compile(r"\[(?:rank|default) ?[1-9]\d*\]: ")
# Numbers that are printed with a name and measure nothing.
_NOT_METRICS = frozenset(
    {"pid", "port", "rank", "local_rank", "world_size", "seed", "line", "gpu", "gpus", "node"}
    | {"nodes", "device", "version", "v_num", "attempt", "num_workers", "total"}
    | {
        f"{prefix}{unit}"
        for prefix in ("", "num_", "max_", "total_")
        for unit in ("epochs", "steps")
    }
)
_UNIT_NAMES = {
    **{name: name for name in ("epoch", "step", "batch", "round")},
    "iter": "step", "iteration": "step", "global_step": "step", "_step": "step",
}  # fmt: skip
_TOTAL_NAMES = {
    unit: [f"{prefix}{unit}s" for prefix in _TOTAL_PREFIXES] for unit in ("epoch", "step")
}


class Progress(NamedTuple):
    """How far it is: ``done`` of ``total`` (None: not told). ``unit`` of a mere bar: ``""``."""

    unit: str
    done: float
    total: float | None = None


class Reading(NamedTuple):
    """What one line tells: progress by unit, and metrics by name."""

    progress: Mapping[str, Progress]
    metrics: Mapping[str, float]

    def __bool__(self) -> bool:
        return bool(self.progress or self.metrics)


def read_line(line: str) -> Reading:
    """What ``line`` tells."""
    text = line.strip()
    if len(text) > _MAX_LINE_CHARS or _OTHER_RANK.match(text):
        return Reading({}, {})
    if text.startswith("{") and text.endswith("}"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            pass  # a printed dict, perhaps
        else:
            return _from_fields(fields)
    return _from_text(text)


class LogLines:
    """Cuts what a program prints into lines; a carriage return ends one too, as bars use it."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The lines that ``chunk`` completes."""
        *whole, self._partial = re.split(rb"[\r\n]", self._partial + chunk)
        # A program that never ends a line shall not fill our memory.
        self._partial = self._partial[: 16 * _MAX_LINE_CHARS]
        for line in whole:
            if line:
                yield line.decode("utf-8", "replace")

    def rest(self) -> Iterator[str]:
        """What stands behind the last line's end."""
        if self._partial:
            yield self._partial.decode("utf-8", "replace")
        self._partial = b""


def _from_fields(fields: Mapping[str, Any]) -> Reading:
    numbers: dict[str, float] = {}
    for name, value in fields.items():
        number = _as_float(value)
        if number is not None:
            numbers[name] = number
    return _sorted_out(numbers, {})


def _as_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _from_text(text: str) -> Reading:
    progress: dict[str, Progress] = {}
    for unit, done, total in _OF.findall(text):
        name = _UNIT_NAMES[unit.lower()]
        if float(total) > 0:
            progress.setdefault(name, Progress(name, float(done), float(total)))
    bar = _BAR.search(text)
    if bar and float(bar[2]) > 0:
        progress[""] = Progress("", float(bar[1]), float(bar[2]))
    for unit, done in _AT.findall(text):
        name = _UNIT_NAMES[unit.lower()]
        progress.setdefault(name, Progress(name, float(done)))
    numbers = {name: float(number) for name, number in _PAIR.findall(text)}
    for name, number in _BARE.findall(text):
        numbers.setdefault(re.sub(r"[ /-]", "_", name), float(number))
    return _sorted_out(numbers, progress)


def _sorted_out(numbers: Mapping[str, float], progress: dict[str, Progress]) -> Reading:
    """Numbers that tell how far it is, and those that measure something."""
    by_name = {name.lower(): number for name, number in numbers.items()}
    for name, unit in _UNIT_NAMES.items():
        if name in by_name and math.isfinite(by_name[name]) and unit not in progress:
            total = next((by_name[t] for t in _TOTAL_NAMES.get(unit, ()) if t in by_name), None)
            progress[unit] = Progress(unit, by_name[name], total or None)
    metrics = {
        name: number
        for name, number in numbers.items()
        if name.lower() not in _UNIT_NAMES and name.lower() not in _NOT_METRICS
    }
    return Reading(progress, metrics)
