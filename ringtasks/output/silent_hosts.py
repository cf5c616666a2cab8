"""The notice of hosts that have not answered for seconds, while the task still waits for them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ringtasks.common.pending_answers import PendingAnswer

__all__ = ["notice"]


def notice(seconds: float, silent: Sequence[PendingAnswer]) -> str:
    """Return the line for these waits, which have lasted for ``seconds`` now."""
    from ringtasks.fleet.folding import folded

    hosts = list(dict.fromkeys(answer.host for answer in silent))
    if len(hosts) > 1:
        return f"no answer for {seconds:g} s from {folded(hosts)}"
    places = ", ".join(dict.fromkeys(answer.place() for answer in silent))
    limits = [answer.until for answer in silent if answer.until is not None]
    left = max(limits, default=0.0) - time.monotonic()
    waits = f"; waiting {left:.0f} s more" if left >= 1 else ""
    return f"{hosts[0]}: no answer for {seconds:g} s over {places}{waits}"
