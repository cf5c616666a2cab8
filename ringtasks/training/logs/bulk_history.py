"""Add the records of many lines to a history, column by column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .columns import Columns, records_in_order
from .history import History
from .number_columns import in_order
from .points import OF_ONE_LINE, is_repeat
from .segments import Assignments, PointsOfColumns, Segment, TimeOf

__all__ = ["add_columns"]


def add_columns(
    history: History, columns: Sequence[Columns], time_of: TimeOf | None = None
) -> None:
    """Add the records of a segment of the log.

    :param time_of: returns the time of a line; None: all have the time of the history.
    """
    if not _add_columns(history, columns, time_of):
        for line, record in records_in_order(columns):
            history.add(record if time_of is None else record._replace(time=time_of(line)))


def _add_columns(history: History, columns: Sequence[Columns], time_of: TimeOf | None) -> bool:
    """Add the records of a segment; False, having added none, if one by one is necessary."""
    placed = [own for own in columns if own.kind != "count"]
    if history.is_heading and not history.at.keys().isdisjoint(OF_ONE_LINE):
        return False
    owned = _owned(history, placed)
    if owned is None or _inherits_batch(owned):
        return False
    segment = None
    if owned:
        segment = Segment(owned, history.before(history.serial + 1), time_of)
        found = {name: PointsOfColumns(name, of, segment) for name, of in _by_name(owned).items()}
        for name, points in found.items():
            points.drop_repeats()
            series = history.series_of(name)
            if series.last is not None and is_repeat(series.last, points[0]):
                series.repeat_last(points[0])
                points.drop_first()
            if len(points):
                series.extend(points)
    _note_totals(history, columns, segment)
    _show_bars(history, columns, segment)
    if segment:
        _end_at(history, segment, owned)
    return True


def _inherits_batch(columns: Sequence[Columns]) -> bool:
    """Return whether a record without a position follows one that gives a batch alone."""
    of_lines = [own for own in columns if own.kind != "bar"]
    headings = [
        own.lines
        for own in of_lines
        if not own.values and not own.positions.keys().isdisjoint(OF_ONE_LINE)
    ]
    if not headings:
        return False
    lines, order = in_order([own.lines for own in of_lines])
    has_own = np.repeat([bool(own.positions) for own in of_lines], [len(o.lines) for o in of_lines])
    after = np.searchsorted(lines, np.concatenate(headings), side="right")
    return not has_own[order][after[after < len(lines)]].all()


def _owned(history: History, columns: Sequence[Columns]) -> list[Columns] | None:
    """Return the records without metrics of other ranks; None if an owner may change."""
    owners = history.owners
    for name, of in _by_name(columns).items():
        ranks = {own.rank for own in of}
        if len(ranks | {owners.get(name, of[0].rank)}) > 1 and (
            min(ranks) < owners.get(name, max(ranks))
        ):
            return None
    owned = []
    for own in columns:
        values = {
            name: column
            for name, column in own.values.items()
            if owners.setdefault(name, own.rank) == own.rank
        }
        if values or not (own.values or own.rank):
            owned.append(own._replace(values=values))
    return owned


def _by_name(columns: Sequence[Columns]) -> dict[str, list[Columns]]:
    """Return the records that print each metric, in the order of the first lines."""
    found: dict[str, list[Columns]] = {}
    for own in sorted(columns, key=lambda own: int(own.lines[0])):
        for name in own.values:
            found.setdefault(name, []).append(own)
    return found


def _end_at(history: History, segment: Segment, columns: Sequence[Columns]) -> None:
    history.serial += segment.measured
    history.at, history.bar_epoch = segment.end()
    headings = [own for own in columns if own.positions and own.kind != "bar"]
    if headings:
        history.is_heading = not max(headings, key=lambda own: int(own.lines[-1])).values
    for own in columns:
        if "epoch" in own.positions:
            inner = own.positions.keys() - {"epoch"}
            history.local_units.update(inner if own.kind == "bar" else inner & {*OF_ONE_LINE})
    for unit, given in segment.units.items():
        before = history.latest.get(unit, given.position(0))
        if unit != "epoch" and (given.falls or given.counts[0] < before.done):
            history.local_units.add(unit)
        history.latest[unit] = given.position(-1)


def _note_totals(history: History, columns: Sequence[Columns], segment: Segment | None) -> None:
    """Note the last total of each unit."""
    found = [
        (int(own.lines[-1]), unit, float(totals[-1]))
        for own in columns
        for unit, totals in own.run_totals.items()
    ]
    for unit, given in segment.units.items() if segment else ():
        if last := given.last_total:
            found.append((last[0], unit, last[1]))
    for _, unit, total in sorted(found):
        history.totals[unit] = total


def _show_bars(history: History, columns: Sequence[Columns], segment: Segment | None) -> None:
    """Show the counts of the run's bar: the first one after each metric, and the last one."""
    counts = [own for own in columns if own.kind == "count"]
    if not counts:
        return
    given = Assignments("", counts)
    total = (history.bar.total or 0.0) if history.bar else given.totals[0]
    of_run = np.flatnonzero(given.totals == total)
    if not len(of_run):
        return
    done, after = given.counts, of_run[given.counts[of_run] != 0]
    lines = given.given_at[after]
    measured = segment.measured_before(lines) if segment else np.zeros(len(after), int)
    serials, first = np.unique(measured, return_index=True)
    shown = dict(zip((serials + history.serial).tolist(), done[after[first]].tolist(), strict=True))
    if history.serial in history.bar_after:  # the first count after a metric stays
        shown.pop(history.serial, None)
    history.bar_after.update(shown)
    history.bar = given.position(of_run[-1])
