"""Two checkouts whose commands take turns in one run: this one, and an older one."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["OLD", "Side", "compared", "side_of"]

#: Marks the name of a case of the old side.
OLD = " (old)"
_TOLERANCE = 1.05


class Side(NamedTuple):
    """The other checkout's program, and an environment with state of its own."""

    inv: str
    environ: dict[str, str]


def side_of(checkout: Path, folder: Path, environ: Mapping[str, str]) -> Side:
    """Return the side of a checkout that has a virtual environment in ``.venv``."""
    inv = checkout.absolute() / ".venv" / "bin" / "inv"
    if not inv.is_file():
        raise SystemExit(f"{inv} is missing: make a virtual environment in that checkout")
    (folder / "old-run").mkdir(mode=0o700, exist_ok=True)
    own = {"XDG_STATE_HOME": f"{folder}/old-state", "XDG_RUNTIME_DIR": f"{folder}/old-run"}
    return Side(str(inv), {**environ, **own})


def compared(taken: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield a line for each case of the new side that has one of the old side.

    The spread of the old side is the distance of its quartiles; a new median within it, or within
    5 %, is no change.

    :param taken: the milliseconds of each case.
    """
    for name, new in taken.items():
        old = taken.get(f"{name}{OLD}")
        if not old or len(old) < 2:
            continue
        medians = statistics.median(new), statistics.median(old)
        quartiles = statistics.quantiles(old, n=4)
        is_same = medians[0] <= max(medians[1] * _TOLERANCE, quartiles[2])
        yield (
            f"{name:32} new {medians[0]:7.1f} ms, old {medians[1]:7.1f} ms "
            f"(quartiles {quartiles[0]:.1f} to {quartiles[2]:.1f}): "
            f"{medians[0] / medians[1]:.2f} {'within' if is_same else 'SLOWER'}"
        )
