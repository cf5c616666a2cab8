"""Progress bars as tqdm draws them, and the metrics beside them.

A bar is drawn many times, and its metrics stay on it until they are set again, so most of what a
bar shows is old.  Which count a value belongs to depends on the loop:

- ``for batch in tqdm(...)``: ``set_postfix`` draws while the bar's count is still that of an
  earlier batch, because tqdm counts only when it draws by itself.  The values drawn between two
  counts belong to the batches between them, if there are as many.
- ``bar.update(1)`` before ``set_postfix``, as Lightning does: the count is the value's.

tqdm/std.py: ``format_meter``, ``__iter__``, ``set_postfix``.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .numbers import as_float, counted
from .parsed import Span, Value
from .records import Position, Record
from .templates import MAX_TEMPLATES, TemplateCache
from .text import parse_fields
from .words import SETS, is_neutral, is_set, is_unrecorded, position_of, split_name

__all__ = ["BarFormat", "BarReader", "BarTemplate", "find_bar"]

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
    "epochs": "epoch", "ep": "epoch", "it": "", "iter": "step", "round": "round",
}  # fmt: skip
# torchtune/recipes: f"{epoch}|{global_step}|Loss: {loss}".
_TUNE_HEAD = re.compile(r"\s*(?P<epoch>\d+)\|(?P<step>\d+)\|(?P<metrics>[^|]*)$", re.ASCII)
_EPOCHS = re.compile(r"\W*(?:training\W+)?epochs?\W*$", re.IGNORECASE | re.ASCII)
_EPOCH_IN_HEAD = re.compile(
    r"\bepoch\s*[:#\[(]?\s*(\d+)(?:\s*(?:/|of)\s*(\d+))?", re.IGNORECASE | re.ASCII
)
#: Bars of work before and beside the training.
_OTHER_WORK = re.compile(
    r"sanity|download|loading|map\b|tokeniz|generat|filter|extract|preprocess|fetch|shard|upload"
    r"|saving|caching|scanning|casting|resolving|creat|packing|truncat|adding|predict",
    re.IGNORECASE,
)
_HELD_OUT = re.compile(rf"(?<![\w-])(?!train|trn)(?:{SETS})(?![\w-])", re.IGNORECASE | re.ASCII)


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
        return _template(head.key, "uncertain", found.end(), spans, shown)
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
    told = {value.name: value.span for value in shown if position_of(value.name)}
    for name in ("epoch", "step"):
        if name not in spans and (span := _told_place(told, name)):
            spans[name] = span
    shown = tuple(value for value in shown if value.name not in told)
    return _template(head.key, unit, found.end(), spans, shown)


def _template(
    head: str, unit: str, end: int, spans: Mapping[str, Span], shown: Sequence[Value]
) -> BarTemplate:
    kind = ""
    if _OTHER_WORK.search(head) or unit == "other":
        kind = "other"
    elif _held_out(head) and not shown:
        kind = "validation"
    names, values = tuple(v.name for v in shown), tuple(v.span for v in shown)
    return BarTemplate(head, unit, kind, end, names, values, tuple(spans), tuple(spans.values()))


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


def _told_place(told: Mapping[str, Span], unit: str) -> Span | None:
    """Return the place that a number beside the bar tells: ``epoch=3``."""
    ranked = sorted(
        (position[1], span)
        for name, span in told.items()
        if (position := position_of(name)) and position[0] == unit
    )
    return ranked[0][1] if ranked else None


class _Head(NamedTuple):
    key: str
    spans: dict[str, Span]
    shown: tuple[Value, ...]


def _read_head(head: str) -> _Head:
    """Read the text before a bar: often an epoch, at times metrics."""
    if found := _TUNE_HEAD.match(head):
        spans = {"epoch": found.span("epoch"), "step": found.span("step")}
        return _Head("tune", spans, _shown(head, *found.span("metrics")))
    spans = {}
    if found := _EPOCH_IN_HEAD.search(head):
        spans["epoch"] = found.span(1)
        if found[2]:
            spans["epochs"] = found.span(2)
    key = re.sub(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "#", head).strip()
    return _Head(key, spans, _shown(head, 0, len(head)))


def _shown(text: str, start: int, end: int) -> tuple[Value, ...]:
    found = parse_fields(text[start:end])
    return tuple(
        Value(value.name, (value.span[0] + start, value.span[1] + start))
        for value in found
        if not is_unrecorded(value.name)
    )


class _State:
    """One bar over its life."""

    def __init__(self, bar: Bar) -> None:
        self.counts_first: bool | None = None  # bar.update(1), then set_postfix
        self.pending: list[Bar] = []
        self.ends: set[str] = set()  # metrics that are set when an epoch ends
        self.known: set[str] = set()
        self.stride = 1.0
        self.begin(bar, ())

    def begin(self, bar: Bar, shown: tuple[tuple[str, bytes], ...]) -> None:
        """Begin a further life of the bar: its next epoch."""
        self.done, self.shown = -1.0, shown
        self.epoch, self.total = bar.epoch, bar.total
        self.last_set = 0.0
        self.row: tuple[bytes, ...] = ()
        self.key: object = None


class BarReader:
    """Reads the states of all bars of a log, in order."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._formats: dict[BarTemplate, BarFormat] = {}
        self._has_validated = False
        self._epoch_length: float | None = None
        self._odd_epoch = math.inf
        self.is_lightning = False

    def format(self, template: BarTemplate) -> BarFormat:
        """Return the format of bars, which is one object for equal templates."""
        found = self._formats.get(template)
        if found is None:
            if len(self._formats) >= MAX_TEMPLATES:
                self._formats.clear()
            found = self._formats[template] = BarFormat(template)
        return found

    def read(self, line: bytes, form: BarFormat) -> list[Record]:
        """Return what the bar of a line tells beyond those before it."""
        template = form.template
        if template.kind:
            self._has_validated |= template.kind == "validation"
            return []
        row = form.cut(line)
        state = self._states.get(template.head)
        at = form.done
        if (
            state is not None
            and state.key == form.key
            and state.row[:at] == row[:at]
            and state.row[at + 1 :] == row[at + 1 :]
            and (done := counted(row[at])) is not None
            and done > state.done
            and not state.pending
        ):
            state.done, self._has_validated = done, False  # it shows nothing new
            return [self._count(done, state.total)] if form.is_bare else []
        bar = form.bar(row)
        if bar is None:
            return []
        records = self._read(bar)
        state = self._states[template.head]
        state.row, state.key = row, form.key if bar.step is None else None
        if form.is_bare:
            records.append(self._count(bar.done, bar.total))
        return records

    @staticmethod
    def _count(done: float, total: float | None) -> Record:
        return Record({"": Position(done, total)}, kind="count")

    def _read(self, bar: Bar) -> list[Record]:
        template = bar.template
        state = self._states.get(template.head)
        if state is None:
            state = self._states[template.head] = _State(bar)
        records: list[Record] = []
        if bar.done < state.done or bar.epoch != state.epoch or bar.total != state.total:
            records += self._flush(state)
            state.begin(bar, state.shown)
        if template.unit == "uncertain":
            changed = bar.shown and bar.shown != state.shown
            records += [self._record(bar, bar.shown, is_certain=False)] if changed else []
        elif bar.step is not None:  # the text tells the step
            changed = bar.shown and (bar.shown != state.shown or bar.done != state.done)
            records += [self._record(bar, bar.shown)] if changed else []
        elif bar.done == state.done:
            records += self._drawn_again(bar, state)
        else:
            records += self._counted_on(bar, state)
        state.done, state.shown = bar.done, bar.shown
        return records

    def end(self) -> list[Record]:
        """Return what is held back because the bar's next count was awaited."""
        return [record for state in self._states.values() for record in self._flush(state)]

    def _counted_on(self, bar: Bar, state: _State) -> list[Record]:
        self._has_validated = False
        records = self._flush(state, bar.done) if state.pending else []
        if not bar.shown or bar.shown == state.shown:
            return records
        if bar.done == 0:
            state.counts_first = bool(state.counts_first)
            state.pending.append(bar)
            return records
        return records + self._set(bar, state)

    def _drawn_again(self, bar: Bar, state: _State) -> list[Record]:
        changed = bar.shown != state.shown
        if state.counts_first is None and changed:
            state.counts_first = bar.done > 0
        if not bar.shown or (not changed and bar.done == 0 and not state.pending):
            return []
        if state.counts_first:
            is_next = bar.done == state.last_set + state.stride
            if bar.done and (changed or self._has_validated or is_next):
                return self._set(bar, state)
        elif bar.total is None or bar.done < bar.total:
            state.pending.append(bar)
        elif changed:
            return self._at_end(bar, state)
        return []

    def _at_end(self, bar: Bar, state: _State) -> list[Record]:
        """Return metrics that appear when the bar is full; those known before may be means now."""
        new = [each for each in bar.shown if each[0] not in state.known or each[0] in state.ends]
        state.ends |= {name for name, _ in new}
        return [self._record(bar, new, is_end=True)] if new else []

    def _set(self, bar: Bar, state: _State) -> list[Record]:
        """Return the metrics that were set at the bar's count."""
        is_full = bar.total is not None and bar.done >= bar.total
        before = dict(state.shown)
        new = {name for name, _ in bar.shown} - state.known
        if (is_full and state.known) or self._has_validated:
            state.ends |= new
        state.known |= new
        fresh = [
            (name, text)
            for name, text in bar.shown
            if name not in state.ends or before.get(name) != text or self._has_validated
        ]
        if self._has_validated:
            fresh = [each for each in fresh if each[0] in state.ends]
        self._has_validated = False
        if bar.done > state.last_set:
            state.stride, state.last_set = bar.done - state.last_set, bar.done
        batch = [each for each in fresh if each[0] not in state.ends]
        epoch = [each for each in fresh if each[0] in state.ends]
        records = [self._record(bar, batch)] if batch else []
        return [*records, self._record(bar, epoch, is_end=True)] if epoch else records

    def _flush(self, state: _State, done: float | None = None) -> list[Record]:
        """Return what was set since the bar's last count, with the counts that it belongs to."""
        pending, state.pending = state.pending, []
        if not pending:
            return []
        start = state.done
        end = done if done is not None else start + len(pending)
        if len(pending) > end - start:  # some were drawn again, around other output
            pending = [
                each
                for n, each in enumerate(pending)
                if not n or each.shown != pending[n - 1].shown
            ]
        is_certain = len(pending) == end - start
        records = []
        for n, bar in enumerate(pending, 1):
            state.known |= {name for name, _ in bar.shown}
            counted = bar._replace(done=start + n)
            records.append(self._record(counted, bar.shown, is_certain=is_certain))
        return records

    def _record(
        self,
        bar: Bar,
        shown: Sequence[tuple[str, bytes]],
        *,
        is_certain: bool = True,
        is_end: bool = False,
    ) -> Record:
        places: dict[str, Position] = {}
        if bar.epoch is not None:
            places["epoch"] = bar.epoch
        if bar.step is not None:
            places["step"] = Position(bar.step)
        elif self.is_lightning and bar.epoch is not None and bar.total:
            places |= self._lightning_places(bar, bar.epoch, is_end=is_end)
        elif is_certain:
            places[bar.template.unit or "step"] = Position(bar.done, bar.total)
        held_out = _held_out(bar.template.head)
        values = [
            (_name_in(held_out, name), number)
            for name, text in shown
            if (number := as_float(text)) is not None
        ]
        return Record(places, values, kind="bar" if is_certain else "line")

    def _lightning_places(self, bar: Bar, epoch: Position, *, is_end: bool) -> dict[str, Position]:
        """Return the batch, and the step over all epochs, which Lightning counts from epoch 0."""
        assert bar.total is not None  # noqa: S101  # for the type checker
        places = {} if is_end else {"batch": Position(bar.done, bar.total)}
        self._epoch_length = self._epoch_length or bar.total
        if bar.total != self._epoch_length:
            self._odd_epoch = min(self._odd_epoch, epoch.done)
        if epoch.done <= self._odd_epoch:  # all epochs before were as long as the first
            places["step"] = Position(epoch.done * self._epoch_length + bar.done)
        return places


@functools.lru_cache(maxsize=256)
def _held_out(head: str) -> str:
    """Return the set of data that a bar is of, if it is not the training's."""
    found = _HELD_OUT.search(head)
    return found[0].lower() if found else ""


@functools.lru_cache(maxsize=4096)
def _name_in(held_out: str, name: str) -> str:
    if not held_out or is_neutral(name) or any(is_set(word) for word in split_name(name)):
        return name
    return f"{held_out}_{name}"
