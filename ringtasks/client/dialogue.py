"""A multi-step exchange with a host, independent of threads and asyncio.

A dialogue (`Dialogue`) is a generator: it yields an `Ask` or a `Pause`, is sent the answer, and
returns the result.  `hold` runs it with threads and `hold_async` with asyncio, so that its logic is
written once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

from ringtasks.common.light_typing import NamedTuple, Protocol

from .ask import Ask
from .result import SSHResult
from .retries import Attempts

__all__ = ["Ask", "Dialogue", "Pause", "answer_to", "ask_until_known", "hold", "hold_async"]

#: Attempts at a request whose answer is lost; the host executes the request exactly once.
_ATTEMPTS = 3

Answer = TypeVar("Answer")


class Asker(Protocol):
    """The part of `SSHClient` that a dialogue needs."""

    def ask(self, ask: Ask) -> SSHResult:
        """Run a command on the host."""

    async def ask_async(self, ask: Ask) -> SSHResult:
        """Call `ask` from asyncio."""


class Pause(NamedTuple):
    """A pause in a dialogue."""

    seconds: float


#: A dialogue; the answer to a `Pause` is None.
Dialogue = Generator["Ask | Pause", "SSHResult | None", Answer]


def hold(client: Asker, dialogue: Dialogue[Answer]) -> Answer:
    """Run the dialogue in the calling thread, and return its result."""
    answer: SSHResult | None = None
    while True:
        try:
            step = dialogue.send(answer)
        except StopIteration as end:
            result: Answer = end.value
            return result
        answer = None
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        else:
            try:
                answer = client.ask(step)
            except KeyboardInterrupt as interrupt:
                dialogue.throw(interrupt)  # it may add what it knows
                raise


async def hold_async(client: Asker, dialogue: Dialogue[Answer]) -> Answer:
    """Run the dialogue in asyncio, and return its result; cancelling ends its remote command."""
    answer: SSHResult | None = None
    while True:
        try:
            step = dialogue.send(answer)
        except StopIteration as end:
            result: Answer = end.value
            return result
        answer = None
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        else:
            answer = await client.ask_async(step)


def answer_to(ask: Ask) -> Dialogue[SSHResult]:
    """Return the answer to one request, within a dialogue."""
    answer = yield ask
    assert answer is not None  # noqa: S101  # only a Pause has no answer
    return answer


def ask_until_known(ask: Ask) -> Dialogue[SSHResult]:
    """Repeat a request until its outcome is known; the host must execute it once only.

    An attempt that fails on the way says nothing of an earlier one with an unknown outcome:
    ``error`` then lists both, and the outcome is unknown.
    """
    attempts = Attempts(_ATTEMPTS, until_known=True)
    while not attempts.is_last(result := (yield from answer_to(ask))):
        pass
    if result.error is None or result.is_unknown:
        return result
    noted = attempts.with_notes(result)
    return replace(noted, is_unknown=noted is not result)
