"""Files that trainers write beside their log, as records.  Pure.

TensorBoard's event files, ``metrics.csv`` (Lightning), ``results.csv`` (ultralytics),
``trainer_state.json`` (transformers), and JSON lines.  They come from hosts, so what they hold is
bounded and checked.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from .event_files import event_records
from .numbers import NUMBER, as_float
from .records import Position, Record
from .words import is_metric, is_split, is_unrecorded, names_part, position_field, total_of

__all__ = ["MAX_BYTES", "is_metric_file", "json_lines", "records_of"]

#: A larger file is refused: it would be held in memory.
MAX_BYTES = 256 << 20
_MAX_COLUMNS = 500
_MAX_NAME = 200
_NUMBER = re.compile(NUMBER, re.ASCII)
_LIST_START = re.compile(r'\s*(?:\{.*?"log_history":\s*)?\[\s*', re.DOTALL)
_COMMA = re.compile(r"\s*,?\s*")
_EVENTS = re.compile(r"(?:.*\.)?tfevents\.", re.ASCII)


def is_metric_file(name: str) -> bool:
    """Tell by its name whether a file is one of these, and no log."""
    return _EVENTS.match(name) is not None or name.lower().endswith((".csv", ".json", ".jsonl"))


def records_of(path: PurePath, data: bytes) -> Iterator[Record]:
    """Yield the records of an event file or of a table.

    If the file's folder is named after a part of the data, as Keras and PyTorch do, so are the
    metrics.
    """
    found: Iterator[Record] = iter(())
    if _EVENTS.match(path.name):
        found = event_records(data)
    elif path.name.lower().endswith(".csv"):
        found = _of_csv(data)
    folder = path.parent.name.lower()
    for record in found:
        if is_split(folder):
            names = (name if names_part(name) else f"{folder}_{name}" for name, _ in record.values)
            values = [(name, value) for name, (_, value) in zip(names, record.values, strict=True)]
            record = record._replace(values=values)
        yield record


def json_lines(data: bytes) -> bytes | None:
    """Return the items of a JSON list, or of ``log_history``, as lines; None if there are none.

    Keras' ``history`` has a list for each metric.  Of a file that is cut short, or still being
    written, the items that are whole are read.
    """
    text = data.decode("utf-8-sig", "replace")
    items: Any
    try:
        whole = json.loads(text)
    except RecursionError:
        return None
    except ValueError:
        items = _whole_items(text)
    else:
        items = whole.get("log_history") if isinstance(whole, Mapping) else whole
        if isinstance(whole, Mapping) and any(map(is_metric, whole)) and _are_lists(whole):
            rows = zip(*whole.values(), strict=True)
            items = [dict(zip(whole, row, strict=True)) for row in rows]
        if not isinstance(items, list):
            return None
    return b"".join(json.dumps(item).encode() + b"\n" for item in items if isinstance(item, dict))


def _whole_items(text: str) -> Iterator[object]:
    """Yield the items of a list whose end is missing."""
    decoder, found = json.JSONDecoder(), _LIST_START.match(text)
    with contextlib.suppress(ValueError, RecursionError):
        while found:
            item, at = decoder.raw_decode(text, found.end())
            yield item
            found = _COMMA.match(text, at)


def _are_lists(whole: Mapping[str, object]) -> bool:
    lengths = {len(own) if isinstance(own, list) else -1 for own in whole.values()}
    return len(lengths) == 1 and -1 not in lengths


def _of_csv(data: bytes) -> Iterator[Record]:
    # The last row may still be written, or be cut within a number.
    whole = data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
    lines = whole.decode("utf-8-sig", "replace").replace("\0", "").splitlines()
    rows = csv.reader(lines, skipinitialspace=True)
    try:
        names = [name.strip() for name in next(rows, [])]
        if len(names) > _MAX_COLUMNS or any(len(name) > _MAX_NAME for name in names):
            return
        has_place = any(map(position_field, names))
        for row in rows:
            if len(row) == len(names):
                numbers = (_finite(cell) for cell in row)
                yield from _record(zip(names, numbers, strict=True), has_place=has_place)
    except csv.Error:
        return


def _record(cells: Iterable[tuple[str, float | None]], *, has_place: bool) -> Iterator[Record]:
    """Yield the record of a row, if it has metrics, and a position unless no row has one."""
    positions: dict[str, tuple[int, Position]] = {}
    metrics: dict[str, float] = {}
    for name, value in cells:
        if value is None or not name:
            continue
        named_unit = position_field(name)
        if named_unit is not None:
            unit, priority = named_unit
            if unit not in positions or priority < positions[unit][0]:
                positions[unit] = priority, Position(value)
        elif not is_unrecorded(name) and total_of(name) is None:
            metrics.setdefault(name, value)
    if metrics and (positions or (not has_place and any(map(is_metric, metrics)))):
        yield Record(
            {unit: position for unit, (_, position) in positions.items()}, [*metrics.items()]
        )


def _finite(cell: str) -> float | None:
    """Return the number in a cell; None for "nan", too, which stands for a missing value."""
    # "0,5" is no number for certain.
    number = as_float(cell) if _NUMBER.fullmatch(cell := cell.strip()) else None
    return number if number is not None and math.isfinite(number) else None
