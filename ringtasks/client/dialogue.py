"""A multi-step exchange with a host, independent of threads and asyncio.

A dialogue (`Conversation`) is a generator: it yields an `Ask` or a `Pause`, is sent the answer, and
returns the result.  `hold` runs it with threads and `hold_async` with asyncio, so that its logic is
written once.
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

#: Attempts at a request whose answer is lost; the host executes the request exactly once.
_ATTEMPTS = 3

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Ask:
    """A command to run on the host, with the arguments of `SSHClient.run` and a few more.

    ``run_id`` marks its processes.  ``in_venv`` runs it in the host's virtual environment.
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
    """A pause in a dialogue."""

    seconds: float


#: A dialogue; the answer to a `Pause` is None.
Conversation = Generator["Ask | Pause", "SSHResult | None", Answer]


def hold(client: SSHClient, conversation: Conversation[Answer]) -> Answer:
    """Run the dialogue in the calling thread, and return its result."""
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
    """Run the dialogue in asyncio, and return its result; cancelling ends its remote command."""
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
    """Return the answer to one request, within a dialogue."""
    answer = yield ask
    assert answer is not None  # noqa: S101  # only a Pause has no answer
    return answer


def ask_until_known(ask: Ask) -> Conversation[SSHResult]:
    """Repeat a request until its outcome is known; the host must execute it once only.

    If the known outcome is an error, ``error`` also lists the earlier attempts with an unknown
    outcome.
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
