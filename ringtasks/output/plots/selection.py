"""Selection of the curves to draw, and their labels.  Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from ringtasks.errors import UsageError
from ringtasks.training.curves import Curve, Curves

__all__ = ["select_curves", "select_metrics"]


def select_curves(
    sources: Mapping[str, Curves], metric: str | None, axis: str | None = None
) -> dict[str, Curve]:
    """Return the wanted curves by label: for one run the metric, for several run and metric.

    :param metric: names or globs, joined by commas, in any case; None: the main one of each run.
    :param axis: the axis to draw over; None: the one that fits each curve best.
    :raises UsageError: no metric matches; the message lists the metrics. Or the axis is not known.
    """
    chosen = select_metrics(sources, metric)
    return {
        _label(run, name, chosen): _curve(sources[run], run, name, axis) for run, name in chosen
    }


def _curve(curves: Curves, run: str, name: str, axis: str | None) -> Curve:
    curve = curves.curve(name, axis)
    if axis is not None and curve.axis != axis:
        if axis == "time":
            raise UsageError(
                f"--axis time: the lines of {run} bear no time, and none was noted while this "
                f"machine followed it; without --axis {name} is drawn over {curve.axis}"
            )
        raise UsageError(
            f"--axis {axis}: the log of {run} gives no {axis} of its own for each {name}; "
            f"without --axis it is drawn over {curve.axis}"
        )
    return curve


def select_metrics(sources: Mapping[str, Curves], metric: str | None) -> list[tuple[str, str]]:
    """Return the wanted metrics, each with its run.

    :raises UsageError: no metric matches; the message lists the metrics.
    """
    patterns = [each.strip().lower() for each in (metric or "").split(",") if each.strip()]
    chosen = [
        (run, name)
        for run, curves in sources.items()
        for name in (_matching(curves.names, patterns) if patterns else _main(curves))
    ]
    if chosen:
        return chosen
    known = sorted({name for curves in sources.values() for name in curves.names})
    if not known:
        raise UsageError(f"no metrics in the log of {', '.join(sources)}, such as 'loss=0.12'")
    if not patterns:
        raise UsageError(
            f"no measure of a model in the log of {', '.join(sources)}; choose one of its other "
            f"numbers: --metric {known[0]} (there are: {', '.join(known)})"
        )
    raise UsageError(f"--metric {metric}: no such metric; there are: {', '.join(known)}")


def _main(curves: Curves) -> list[str]:
    return [curves.main] if curves.main is not None else []


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatch(name.lower(), p) for p in patterns)]


def _label(run: str, name: str, chosen: Sequence[tuple[str, str]]) -> str:
    return name if len({run for run, _ in chosen}) == 1 else f"{run} {name}"
