"""Progress bars as tqdm draws them: the parts of a bar's line.  Pure.

    Epoch 1:  50%|#####     | 5/10 [00:01<00:01, 4.93it/s, loss=0.5]

tqdm/std.py: ``format_meter``; PyTorch-Ignite's ``ProgressBar`` has a layout of its own.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .numbers import as_float, counted
from .parsed import Span, Value
from .records import Position
from .template_cache import MAX_TEMPLATES, TemplateCache
from .text_lines import parse_fields
from .trials import named_in_trial, trial_of
from .words import SPLITS, is_metric, name_in, position_field

__all__ = ["Bar", "BarFormat", "BarTemplate", "find_bar", "format_of", "held_out"]

_COUNT = r"\d+(?:\.\d+)?[kKMGT]?"
_BAR = re.compile(
    rf"(?P<head>[^\r\n]*?)(?:(?P<percent>\d{{1,3}})%\|(?P<fill>[^|\[\]]{{0,600}})\||\|\s+\|)"
    rf"\s*(?P<done>{_COUNT})/(?P<total>{_COUNT}|\?)\s*\[(?P<inside>(?:[^\[\]]|\[[^\[\]]*\])*)\]",
    re.ASCII,
)
# PyTorch-Ignite's bars: the count may be that of the batch before.
_IGNITE = re.compile(
    rf"(?P<head>[^\r\n|]*?)\[(?P<done>{_COUNT})/(?P<total>{_COUNT})\]\s+\d{{1,3}}%\|"
    r"(?P<fill>[\x80-\xff# ]*)(?:, (?P<shown>[^\[]+?))? \[(?P<inside>[\d:?<]+)\]",
    re.ASCII,
)
_NO_TOTAL = re.compile(
    r"(?P<head>[^\r\n\[]*?)(?<![\d.])(?P<done>\d+)(?P<unit>it|batch|step|epoch)s? "
    r"\[(?P<inside>\d[\d:]*, (?:[^\[\]]|\[[^\[\]]*\])*)\]",
    re.ASCII,
)
_RATE = re.compile(
    r"\s*(?:[\d.?]+\s?[kKMGT]?(?P<per>[A-Za-z]+)/s|[\d.?]+s/(?P<each>[A-Za-z]+))\s*$"
)
_UNIT_OF_RATE = {
    "batch": "batch", "batches": "batch", "step": "step", "steps": "step", "epoch": "epoch",
    "epochs": "epoch", "ep": "epoch", "it": "", "iter": "step", "round": "round", "ba": "batch",
    **dict.fromkeys(
        "sample samples img imgs image images ex example examples seq seqs".split(), "sample"
    ),
}  # fmt: skip
# torchtune/recipes: f"{epoch}|{global_step}|Loss: {loss}".
_TUNE_HEAD = re.compile(r"\s*(?P<epoch>\d+)\|(?P<step>\d+)\|(?P<metrics>[^|]*)$", re.ASCII)
_EPOCHS = re.compile(r"\W*(?:training\W+)?epochs?\W*$", re.IGNORECASE | re.ASCII)
_EPOCH_IN_HEAD = re.compile(
    r"\bepoch\s*[:#]?\s*[\[(]?\s*(?P<epoch>\d+)(?:\s*(?:/|of)\s*(?P<epochs>\d+))?",
    re.IGNORECASE | re.ASCII,
)
# "[fold_0] 001/200:   25%|##        | 1/4"
_COUNT_IN_HEAD = re.compile(r"(?:\A|[\]):|-])\s*(?P<epoch>\d+)/(?P<epochs>\d+)\s?:\s*\Z", re.ASCII)
#: torchrun, with the label of ringtasks or its own.
_RANK_IN_HEAD = re.compile(r"\s*\[(?:rank|default)\s?(?P<rank>\d{1,5})\]:", re.ASCII)
#: Bars of work before and beside the training.
_OTHER_WORK = re.compile(
    r"sanity|download|loading|map\b|tokeniz|generat|filter|extract|preprocess|fetch|shard|upload"
    r"|saving|caching|scanning|casting|resolving|creat|packing|truncat|adding|predict",
    re.IGNORECASE,
)
_HELD_OUT = re.compile(rf"(?<![\w-])(?!train|trn)(?:{SPLITS})(?![\w-])", re.IGNORECASE | re.ASCII)


class BarTemplate(NamedTuple):
    """The parts of the bars of one template, and their spans in the line.

    ``kind``: ``"other"`` of work beside the training, ``"validation"`` without metrics, or ``""``.
    ``values``: the spans of the metrics ``names``, as ``spans`` are of ``fields``.
    """

    head: str
    unit: str
    kind: str
    end: int
    names: tuple[str, ...]
    values: tuple[Span, ...]
    fields: tuple[str, ...]
    spans: tuple[Span, ...]

    def __bool__(self) -> bool:
        return self.end > 0


_NO_BAR = BarTemplate("", "", "", 0, (), (), (), ())


class Bar(NamedTuple):
    """One state of a bar. ``shown``: its metrics as they are printed."""

    template: BarTemplate
    done: float
    total: float | None
    shown: tuple[tuple[str, bytes], ...]
    epoch: Position | None
    step: float | None


def _find_bar(text: str) -> BarTemplate:
    """Return the parts of the bar that a line begins with.

    ``Epoch 1:  50%|#####     | 5/10 [00:01<00:01, 4.93it/s, loss=0.5]``
    """
    if found := _IGNITE.match(text):
        spans = {"done": found.span("done"), "total": found.span("total")}
        head = _read_head(found["head"])
        spans |= {name: span for name, span in head.spans.items() if name != "step"}
        shown = _shown(text, *found.span("shown")) if found["shown"] else ()
        return _template(found["head"], head.key, "uncertain", found.end(), spans, shown)
    found = _BAR.match(text) or _NO_TOTAL.match(text)
    if found is None:
        return _NO_BAR
    spans = {"done": found.span("done")}
    if found.re is _BAR and found["total"] != "?":
        spans["total"] = found.span("total")
    parts = found["inside"].split(", ")
    rate = next((n for n, part in enumerate(parts) if _RATE.match(part)), 0)
    per = _RATE.match(parts[rate])
    unit = _UNIT_OF_RATE.get(((per["per"] or per["each"]) if per else "it").lower(), "other")
    if not unit and _EPOCHS.match(found["head"]):
        unit = "epoch"
    start, end = found.span("inside")
    start += len(", ".join(parts[: rate + 1])) + len(", ")
    head = _read_head(found["head"])
    spans |= head.spans
    shown = head.shown + (_shown(text, start, end) if start < end else ())
    told = {value.name: value.span for value in shown if position_field(value.name)}
    for name in ("epoch", "step"):
        if name not in spans and (span := _stated_position(told, name)):
            spans[name] = span
    shown = tuple(value for value in shown if value.name not in told)
    return _template(found["head"], head.key, unit, found.end(), spans, shown)


def _template(
    text: str,
    head: str,
    unit: str,
    end: int,
    spans: Mapping[str, Span],
    shown: Sequence[Value],
) -> BarTemplate:
    kind = ""
    if unit == "other" and any(is_metric(value.name) for value in shown):
        unit = "uncertain"  # what is counted is not known
    if _OTHER_WORK.search(head) or unit == "other" or (unit == "sample" and not shown):
        kind = "other"
    elif held_out(head) and not shown:
        kind = "validation"
    trial = trial_of(text)
    shown = _of_own_names(shown, held_out(head))
    names = tuple(named_in_trial(value.name, trial) for value in shown)
    values = tuple(value.span for value in shown)
    head = f"{trial} {head}" if trial and head else head
    return BarTemplate(head, unit, kind, end, names, values, tuple(spans), tuple(spans.values()))


def _of_own_names(shown: Sequence[Value], part: str) -> list[Value]:
    """Return the values whose name, with the part of the data, is no other's."""
    given = {value.name for value in shown}
    found: dict[str, Value] = {}
    for value in shown:
        name = name_in(part, value.name)
        if name == value.name or name not in given:
            found.setdefault(name, value)
    return list(found.values())


find_bar = TemplateCache(_find_bar)


class BarFormat:
    """Cuts the fields out of the bars of one template; the count is between the others."""

    def __init__(self, template: BarTemplate) -> None:
        self.template = template
        kinds = [*template.fields, *template.names]
        spans = [*template.spans, *template.values]
        order = sorted(range(len(spans)), key=spans.__getitem__)
        parts, at = [], 0
        for start, end in (spans[n] for n in order):
            parts.append(f"{start - at}x{end - start}s")
            at = end
        self.cut = struct.Struct("".join(parts)).unpack_from
        self.index = {kind: order.index(n) for n, kind in enumerate(kinds[: len(template.fields)])}
        self.values = [order.index(n) for n in range(len(template.fields), len(kinds))]
        self.done = self.index["done"]
        #: A bar without a text before it may count the run.
        self.is_bare = not template.head and template.unit in ("", "step")
        #: The values belong to counts: the bar gives no step, and it is clear what it counts.
        self.is_of_counts = template.unit != "uncertain" and "step" not in self.index
        #: Bars of equal keys show the same if all of their fields but the count are equal.
        self.key = (template.head, template.unit, tuple(kinds[n] for n in order), self.done)

    def bar(self, row: tuple[bytes, ...]) -> Bar | None:
        """Return the state that fields show."""
        index, template = self.index, self.template
        done = counted(row[self.done])
        if done is None:
            return None
        epoch = as_float(row[index["epoch"]]) if "epoch" in index else None
        epochs = as_float(row[index["epochs"]]) if "epochs" in index else None
        return Bar(
            template,
            done,
            counted(row[index["total"]]) if "total" in index else None,
            tuple(zip(template.names, [row[n] for n in self.values], strict=True)),
            Position(epoch, epochs) if epoch is not None else None,
            as_float(row[index["step"]]) if "step" in index else None,
        )


#: Returns the format of bars, which is one object for equal templates.
format_of = functools.lru_cache(maxsize=MAX_TEMPLATES)(BarFormat)


def _stated_position(told: Mapping[str, Span], unit: str) -> Span | None:
    """Return the position that a number beside the bar tells: ``epoch=3``."""
    ranked = sorted(
        (named_unit[1], span)
        for name, span in told.items()
        if (named_unit := position_field(name)) and named_unit[0] == unit
    )
    return ranked[0][1] if ranked else None


class _BarHead(NamedTuple):
    key: str
    spans: dict[str, Span]
    shown: tuple[Value, ...]


def _read_head(head: str) -> _BarHead:
    """Read the text before a bar: often an epoch, at times metrics."""
    if found := _TUNE_HEAD.match(head):
        spans = {"epoch": found.span("epoch"), "step": found.span("step")}
        return _BarHead("tune", spans, _shown(head, *found.span("metrics")))
    spans = {}
    if found := _RANK_IN_HEAD.match(head):
        spans["rank"] = found.span("rank")
    if found := _EPOCH_IN_HEAD.search(head) or _COUNT_IN_HEAD.search(head):
        spans["epoch"] = found.span("epoch")
        if found["epochs"]:
            spans["epochs"] = found.span("epochs")
    key = re.sub(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "#", head).strip()
    return _BarHead(key, spans, _shown(head, 0, len(head)))


def _shown(text: str, start: int, end: int) -> tuple[Value, ...]:
    piece = text[start:end]
    if "=" not in piece and ":" not in piece:
        piece = piece.replace(" - ", " = ")  # segmentation_models: "dice_loss - 0.5"
    return parse_fields(piece, start)


@functools.lru_cache(maxsize=256)
def held_out(head: str) -> str:
    """Return the split of the data that a bar is for, unless it is the training data."""
    found = _HELD_OUT.search(head)
    return found[0].lower() if found else ""
