"""What is said to a host in several steps, apart from how one waits for the answers.

A conversation is a generator: it yields an `Ask` or a `Pause`, is sent the answer, and returns the
result.  `hold` has it with threads, `hold_async` with asyncio; there is no third copy of the logic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

if TYPE_CHECKING:
    from ringtasks.common.cancellation import Cancellation

    from .result import SSHResult
    from .ssh_client import SSHClient

__all__ = ["Ask", "Conversation", "Pause", "answer_to", "ask_until_known", "hold", "hold_async"]

#: What is exactly-once on the host is asked for again where the answer is lost.
_ATTEMPTS = 3

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Ask:
    """A command to run on the host, with the arguments of `SSHClient.run` and a few more.

    ``run_id`` marks its processes.  ``in_venv``: within the host's virtual environment.
    ``cancellation`` ends it from another thread.
    """

    command: str
    timeout: float | None = None
    cwd: str | None = "~"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    run_id: str | None = None
    in_venv: bool = False
    stdin: BinaryIO | None = None
    on_output: Callable[[int, bytes], None] | None = None
    cancellation: Cancellation | None = None


class Pause(NamedTuple):
    """Some seconds in which nothing is said."""

    seconds: float


#: A `Pause` is answered with None.
Conversation = Generator["Ask | Pause", "SSHResult | None", Answer]


def hold(client: SSHClient, conversation: Conversation[Answer]) -> Answer:
    """The conversation's result; the calling thread waits."""
    answer: SSHResult | None = None
    while True:
        try:
            step = conversation.send(answer)
        except StopIteration as end:
            result: Answer = end.value
            return result
        answer = None
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        else:
            answer = client.ask(step)


async def hold_async(client: SSHClient, conversation: Conversation[Answer]) -> Answer:
    """The conversation's result; cancelling ends what runs on the host for it."""
    answer: SSHResult | None = None
    while True:
        try:
            step = conversation.send(answer)
        except StopIteration as end:
            result: Answer = end.value
            return result
        answer = None
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        else:
            answer = await client.ask_async(step)


def answer_to(ask: Ask) -> Conversation[SSHResult]:
    """The answer to one question, within a conversation."""
    answer = yield ask
    assert answer is not None  # noqa: S101  # only a Pause has no answer
    return answer


def ask_until_known(ask: Ask) -> Conversation[SSHResult]:
    """The answer to what may be asked for again, since the host does it once only.

    An answer that is no better than an unknown one before it says so in ``error``.
    """
    unknown: list[str] = []
    for attempt in range(1, _ATTEMPTS + 1):
        result = yield from answer_to(ask)
        if not result.is_unknown:
            break
        unknown.append(f"attempt {attempt}: {result.error}")
    if result.error is not None and not result.is_unknown and unknown:
        return result.with_note("; ".join(unknown))
    return result
