"""Answers about this machine that all hosts of one run share.

Whether there is an ``ssh``, which files of settings exist, and who the user is, cannot differ
between the hosts of a run.  While `shared` is in force, each answer is kept for a moment, so
that a run on many hosts does not ask again for each of them; otherwise each call looks anew.  Each
run begins with a look of its own.  If many threads need an answer at the same time, one looks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from _thread import allocate_lock  # every run loads this module, and few need `threading`
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

__all__ = ["is_shared", "kept", "shared"]

_KEPT_SECONDS = 0.5  # a file that was changed during a run counts soon after

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _SharedAnswers:
    """The answers of one look, by function and arguments."""

    def __init__(self) -> None:
        self.runs: list[None] = []  # one each; a list's methods are atomic
        self.seconds = _KEPT_SECONDS
        self.ends_at = 0.0
        self.answers: dict[Any, Any] = {}
        self.locks: dict[Any, Any] = {}

    def forget(self) -> None:
        """Drop the answers, and the locks of the threads that are looking."""
        self.answers, self.locks = {}, {}


_look = _SharedAnswers()
os.register_at_fork(after_in_child=_look.forget)  # a thread of the parent may hold a lock


@contextlib.contextmanager
def shared(seconds: float = _KEPT_SECONDS) -> Iterator[None]:
    """Keep answers, each for some seconds, while the block runs, in all threads of this process."""
    _look.seconds, _look.ends_at = seconds, 0.0
    _look.runs.append(None)
    try:
        yield
    finally:
        _look.runs.pop()


def is_shared() -> bool:
    """Return True during a run."""
    return bool(_look.runs)


def kept(function: _Function) -> _Function:
    """Return the function with its answers kept during a run; its arguments must be hashable."""

    @functools.wraps(function)
    def look(*args: Any) -> Any:
        if not _look.runs:
            return function(*args)
        now = time.monotonic()
        if now >= _look.ends_at:
            _look.forget()
            _look.ends_at = now + _look.seconds
        answers, asked = _look.answers, (function, args)
        if asked not in answers:
            with _look.locks.setdefault(asked, allocate_lock()):
                if asked not in answers:
                    answers[asked] = function(*args)
        return answers[asked]

    return look  # type: ignore[return-value]  # the same parameters, by position
