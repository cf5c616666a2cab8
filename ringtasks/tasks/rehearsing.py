"""The flag ``--rehearse`` of every task that connects, and the marks on its output."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ringtasks.common import rehearsal
from ringtasks.output import display

__all__ = ["FLAG", "REHEARSE_HELP", "rehearsed", "signature_with_flag"]

FLAG = "rehearse"
REHEARSE_HELP = (
    "let routes fail, to see what would happen: tailscale=down,direct=slow:2s,gpu1.direct=cut:3s"
)


def signature_with_flag(body: Callable[..., Any]) -> inspect.Signature:
    """Return a task's parameters and the flag, by which Invoke learns of it."""
    found = inspect.signature(body)
    flag = inspect.Parameter(FLAG, inspect.Parameter.KEYWORD_ONLY, default=None)
    return found.replace(parameters=[*found.parameters.values(), flag])


@contextlib.contextmanager
def rehearsed(words: str | None) -> Iterator[None]:
    """Within the block, which is a task, a rehearsal is in force, and is reported at both ends.

    :param words: the flag's value; None: the variable's, if it is set.
    :raises UsageError: a word has no meaning.
    """
    if words is None and rehearsal.current() is None:
        yield
        return
    with contextlib.nullcontext() if words is None else rehearsal.rehearsing(words):
        from ringtasks.ssh.rehearsal import check, failed

        check()
        _begin()
        try:
            yield
        finally:
            told = ", ".join(failed()) or "no route was tried that was to fail"
            display.say(f"REHEARSAL: failed on purpose: {told}")


def _begin() -> None:
    found = rehearsal.current()
    assert found is not None  # noqa: S101  # for the type checker
    display.say(found.notice)
    rehearsal.announce()
    from ringtasks.output import github

    if github.is_active(os.environ):
        line = github.command("warning", found.notice, title="Rehearsal")
        print(line, file=sys.stderr, flush=True)
