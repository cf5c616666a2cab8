"""The content of a printed dict: a line of JSON, or of Python's ``repr``.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .dicts import Item, scan
from .logger_prefix import rank_in, skip_prefixes
from .numbers import WHOLE
from .parsed import Parsed, ParsedPosition, Span, Value
from .positions import find_positions
from .text_lines import SPLIT_WORD, has_number, is_warning, parse_text
from .words import (
    SPLITS,
    is_argument,
    is_metric,
    is_split,
    is_unrecorded,
    name_in,
    position_field,
    total_of,
)

__all__ = ["parse_dicts"]

#: Containers whose name adds no meaning: {"step": 3, "metrics": {"loss": 0.1}}.
_WRAPPERS = frozenset("metrics metric scalars values logs log data results result stats".split())
_SET_KEYS = frozenset("split mode phase stage dataset set subset type _type name".split())
#: "val_epoch", "train_iter"
_SET_OF_UNIT = re.compile(rf"(?P<split>{SPLITS})_(?:epoch|iter|step|batch)\Z", re.ASCII)
_FRACTION = re.compile(rf"\s*(?P<done>{WHOLE})/(?P<total>{WHOLE})\s*\Z", re.ASCII)
_KEYS_OF_A_NAME = ("metric", "name", "key", "tag")
_TEXT_KEYS = ("message", "msg", "event", "log", "text")


def parse_dicts(text: str, brace: int) -> Parsed | None:
    """Read a line that holds dicts, perhaps after a text; None if none of them is whole."""
    groups: list[tuple[str, list[Item]]] = []
    outside, at = [], 0
    while brace >= 0:
        found = scan(text, brace)
        if found is None:
            return None
        items, end = found
        outside.append((at, brace))
        groups.append((text[at:brace], items))
        at, brace = end, text.find("{", end)
    outside.append((at, len(text)))
    if not text[: outside[0][1]].strip() and len(groups) == 1:
        return _from_items(groups[0][1], text)
    around = "".join(
        text[a:b] + " " * (c - b)
        for (a, b), (c, _) in zip(outside, [*outside[1:], (len(text), 0)], strict=True)
    )
    if is_warning(around[: outside[0][1]]):
        return Parsed()
    return _with_surroundings(around[: len(text)], groups, text)


def _with_surroundings(around: str, groups: list[tuple[str, list[Item]]], text: str) -> Parsed:
    positions = find_positions(around, skip_prefixes(around), [])
    values: list[Value] = []
    own: list[ParsedPosition] = []
    for before, items in groups:
        labels = SPLIT_WORD.findall(before)
        parsed = _from_items(
            items, text, label=labels[-1].lower() if labels else "", anchored=bool(positions)
        )
        values += [each for each in parsed.values if each.name not in {v.name for v in values}]
        own += [each for each in parsed.positions if each.unit not in {o.unit for o in own}]
    names = {each.name for each in values}
    values += [each for each in parse_text(around).values if each.name not in names]
    units = {position.unit for position in positions}
    positions += [position for position in own if position.unit not in units]
    return Parsed(tuple(positions), tuple(values), (), rank_in(around), is_dict=True)


def _from_items(
    items: Sequence[Item], text: str, *, label: str = "", anchored: bool = False
) -> Parsed:
    numbers = [each for each in items if each.is_number]
    if not all(each.is_quoted for each in numbers):
        # If some numbers are printed bare, a quoted one is a text, unless its name is a known one.
        numbers = [each for each in numbers if not each.is_quoted or _is_known(each.path[-1])]
    words = {each.path[-1].lower(): each.text or "" for each in items if not each.is_number}
    inner = next((words[key] for key in _TEXT_KEYS if key in words and has_number(words[key])), "")
    if inner and not any(is_metric(each.path[-1]) for each in numbers):
        return _from_message(items, inner)
    if words.get("mode") in ("val", "test"):
        numbers = _without_counts_of_mmcv(numbers)
    numbers = _long_form(numbers, words)
    if not label:
        label = next((found for key in _SET_KEYS if (found := _set_of(words.get(key, "")))), "")
    parsed = _sorted_numbers(numbers, label)
    parsed = _with_fractions(parsed, [each for each in items if not each.is_number])
    positions, kept = parsed.positions, parsed.values
    measured = any(is_metric(each.name) for each in kept)
    settings = sum(is_argument(each.path[-1]) for each in items)
    if not measured and not ((positions or anchored) and not settings):
        kept = ()
    if measured and not positions and settings > 1:
        kept = ()
    return parsed._replace(positions=positions if measured or kept else (), values=kept)


def _sorted_numbers(numbers: Sequence[Item], label: str) -> Parsed:
    """Return the numbers as positions, values, totals and the rank."""
    found: dict[str, tuple[int, Span]] = {}
    totals: list[tuple[str, Span]] = []
    rank: Span | None = None
    kept: list[Value] = []
    for path, start, end, *_ in numbers:
        name = ".".join(part for part in path if part.lower() not in _WRAPPERS) or path[-1]
        named_unit = position_field(name) or position_field(path[-1])
        if named_unit:
            unit, priority = named_unit
            found[unit] = min(found.get(unit, (99, (start, end))), (priority, (start, end)))
        elif unit_of_total := total_of(name):
            totals.append((unit_of_total, (start, end)))
        elif name.lower() in ("rank", "local_rank", "global_rank", "process_index"):
            rank = (start, end)
        elif not is_unrecorded(path[-1]) or is_metric(name):
            kept.append(Value(name_in(label, name), (start, end)))
    positions = tuple(ParsedPosition(unit, span) for unit, (_, span) in found.items())
    return Parsed(positions, tuple(kept), tuple(totals), rank, is_dict=True)


def _set_of(word: str) -> str:
    """Return the part of the data that a word names."""
    found = _SET_OF_UNIT.match(word)
    return found["split"] if found else word.lower() if is_split(word) else ""


def _with_fractions(parsed: Parsed, texts: Sequence[Item]) -> Parsed:
    """Add the positions of texts: {"epoch": "1/200"} (SlowFast)."""
    known = {position.unit for position in parsed.positions}
    positions = list(parsed.positions)
    for path, start, _, text, _ in texts:
        name = path[-1].partition("/")[0]  # ms-swift: {"global_step/max_steps": "1/200"}
        named_unit, found = position_field(name), _FRACTION.match(text or "")
        if named_unit and found and named_unit[0] not in known:
            known.add(named_unit[0])
            spans = ((start + a, start + b) for a, b in (found.span("done"), found.span("total")))
            positions.append(ParsedPosition(named_unit[0], *spans))
    return parsed._replace(positions=tuple(positions))


def _without_counts_of_mmcv(numbers: list[Item]) -> list[Item]:
    """Return the metrics of a validation: "iter" is its number of batches, beside the last "lr"."""
    if not {"iter", "lr"} <= {each.path[-1] for each in numbers}:
        return numbers
    return [each for each in numbers if each.path[-1] not in ("iter", "lr", "memory")]


def _is_known(name: str) -> bool:
    return is_metric(name) or position_field(name) is not None


def _long_form(numbers: list[Item], words: dict[str, str]) -> list[Item]:
    """Read {"metric": "loss", "value": 0.5} as {"loss": 0.5}."""
    name = next((words[key] for key in _KEYS_OF_A_NAME if words.get(key)), "")
    if not name or not re.fullmatch(r"[\w./@ '-]{1,80}", name, re.ASCII):
        return numbers
    return [
        each._replace(path=(name,)) if each.path[-1].lower() == "value" else each
        for each in numbers
    ]


def _from_message(items: Sequence[Item], inner: str) -> Parsed:
    """Read the text that a structured log wraps: {"level": "info", "message": "step 1 loss=2"}."""
    start = next(each.start for each in items if each.text == inner)
    escaped = inner.replace("\\n", "  ").replace("\\t", " \t")
    found = parse_text(escaped) if not is_warning(escaped) else Parsed()
    return found.moved(lambda span: (span[0] + start, span[1] + start))
