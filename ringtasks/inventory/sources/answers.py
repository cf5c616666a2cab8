"""The answers of several sources: from their caches, or fetched side by side.

An answer that is younger than ``refresh`` is used as it is.  An older one is fetched again; while
the source does not answer, the old one is used, with a warning and its age.  If an attempt took
long, the next one waits, so that a source that hangs delays one run a minute, not each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ringtasks.common.durations import lasting
from ringtasks.common.text import bounded
from ringtasks.common.threads import start_thread

from . import cache
from .cache import Cached
from .checking import checked, with_changes
from .kinds import masked
from .model import Deadline, Freshness, Listing, Source, SourceAnswer, SourceError

__all__ = ["FETCH_TIMEOUT", "answers_of", "freshness_of"]

#: Seconds for all sources together: a person waits.
FETCH_TIMEOUT = 8.0
#: Seconds to the next attempt after one that took longer than `_LONG`.
_PAUSE = 60.0
_LONG = 2.0

#: The attempts of this process, for a state folder that cannot be written.
_attempts: dict[str, Cached] = {}


def answers_of(
    sources: Sequence[Source], *, newer_than: float = 0.0, may_fetch: bool = True
) -> list[SourceAnswer]:
    """Return the answer of each source, in their order.

    :param newer_than: Unix seconds; an answer from before is fetched again.
    :param may_fetch: False: take what is cached, and ask no source.
    """
    known = [_known(source) for source in sources]
    due = [
        (source, cached)
        for source, cached in zip(sources, known, strict=True)
        if may_fetch and _is_due(source, cached, newer_than)
    ]
    if due:
        _fetch_all(due)
        known = [_known(source) for source in sources]
    return [_answer(source, cached) for source, cached in zip(sources, known, strict=True)]


def freshness_of(sources: Sequence[Source]) -> Freshness | None:
    """Return the time in which the cached answers are used as they are; None: it is over."""
    known = [_known(source) for source in sources]
    if not known or any(cached.error or not cached.fetched_at for cached in known):
        return None
    ends = [c.fetched_at + s.refresh for s, c in zip(sources, known, strict=True)]
    files = tuple(str(cache.file_of(source)) for source in sources)
    return Freshness(max(cached.fetched_at for cached in known), min(ends), files)


def _known(source: Source) -> Cached:
    file = cache.file_of(source)
    stored, own = cache.read(file), _attempts.get(str(file), Cached())
    return max(stored, own, key=lambda each: each.tried_at)


def _is_due(source: Source, cached: Cached, newer_than: float) -> bool:
    now = time.time()
    if newer_than:
        return cached.tried_at < newer_than
    # A time in the future is that of a clock which was wrong.
    if 0 <= now - cached.fetched_at < source.refresh:
        return False
    is_paused = bool(cached.error) and cached.elapsed > _LONG
    return not (is_paused and 0 <= now - cached.tried_at < _PAUSE)


def _fetch_all(due: Sequence[tuple[Source, Cached]]) -> None:
    """Fetch all of them side by side; a thread that is late goes on without being waited for.

    :param due: the sources, each with the answer that was found to be too old.
    """
    deadline = Deadline(FETCH_TIMEOUT)
    threads = [start_thread(_fetch, *each, deadline, name="ringtasks-source") for each in due]
    end = time.monotonic() + FETCH_TIMEOUT + 0.5  # the threads themselves end in time, if they can
    for (source, _), thread in zip(due, threads, strict=True):
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            _failed(source, FETCH_TIMEOUT, str(deadline.passed()))


def _fetch(source: Source, old: Cached, deadline: Deadline) -> None:
    started = time.monotonic()
    try:
        with cache.locked(cache.file_of(source), deadline.left()):
            if _known(source).tried_at == old.tried_at:  # else it was asked meanwhile
                _ask(source, deadline, started)
    except SourceError as error:
        _failed(source, time.monotonic() - started, str(error))


def _ask(source: Source, deadline: Deadline, started: float) -> None:
    try:
        asked, now = _asked(source, deadline), time.time()
    except SourceError as error:  # kept before the lock is released: others wait for it
        _failed(source, time.monotonic() - started, str(error))
        return
    listing = with_changes(asked, _known(source).listing, now)
    _keep(source, Cached(listing, now, now, time.monotonic() - started))


def _asked(source: Source, deadline: Deadline) -> Listing:
    from .fetching import fetch

    try:
        return checked(fetch(source, deadline))
    except SourceError:
        raise
    except Exception as error:  # what a source prints must end no run
        told = f"{type(error).__name__}: {error}"
        raise SourceError(f"unexpected answer: {bounded(masked(told))}") from error


def _failed(source: Source, elapsed: float, error: str) -> None:
    known = _known(source)
    _keep(source, known._replace(tried_at=time.time(), elapsed=elapsed, error=error))


def _keep(source: Source, cached: Cached) -> None:
    file = cache.file_of(source)
    if not cache.write(file, cached):
        _attempts[str(file)] = cached


def _answer(source: Source, cached: Cached) -> SourceAnswer:
    if not cached.error:
        return SourceAnswer(source, cached.listing, cached.fetched_at)
    if not cached.fetched_at:
        warning = f"{cached.error}; its hosts are not known"
    else:
        age = lasting(max(0.0, time.time() - cached.fetched_at))
        warning = f"{cached.error}; its answer of {age} ago is used"
    return SourceAnswer(source, cached.listing, cached.fetched_at, warning)
