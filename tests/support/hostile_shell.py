"""A host whose programs are real, and whose answers are not: they are changed on the way.

It stands in front of every command of a real sshd (``ForceCommand``).
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # it is also run as a program

from tests.support.mutations import mutated

__all__ = ["Answers", "HostileShell"]

_CHUNK_BYTES = 64 * 1024
_PAUSE = 0.1  # seconds
_ENDLESS_BYTES = 4 * 1024**3  # where a client takes it all, the test is over some time


@dataclass
class Answers:
    """What is done to the stdout of each command.

    :param replaced: texts, and what comes in their place.
    :param endless_after: an output that has this text in it goes on for ever.
    :param numbers: comes in place of each number, if it is not empty. The marks that prove an
        answer to be the script's are kept.
    :param stderr: is printed there with each answer.
    :param seed: for changes by chance (`mutations.mutated`); None: no such changes.
    """

    replaced: dict[str, str] = field(default_factory=dict)
    endless_after: str = ""
    numbers: str = ""
    seed: int | None = None
    stderr: str = ""

    def of(self, said: bytes) -> bytes:
        """Return the replacement of a whole output."""
        lines = said.decode("latin-1").split("\n")
        marks = [at for at, line in enumerate(lines) if line.startswith("ringtasks:")]
        if self.seed is not None:
            chance = random.Random(f"{self.seed} {said!r}")
            if chance.random() < 0.2:  # the marks, too
                return mutated(said.decode("latin-1"), chance).encode("utf-8")
        first, last = (marks[0] + 1, marks[-1]) if len(marks) > 1 else (len(lines), len(lines))
        inside = "\n".join(lines[first:last])
        if self.numbers:
            inside = re.sub(r"\d+", self.numbers, inside)
        if self.seed is not None:
            inside = mutated(inside, chance)
        return "\n".join([*lines[:first], inside, *lines[last:]]).encode("utf-8", "replace")


class HostileShell:
    """The answers of one server, in a file that it reads with every command.

    :param file: where that is; it is written by `answer`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.answer(Answers())

    @property
    def config(self) -> list[str]:
        """For ``Sshd(config=…)``."""
        return [f"ForceCommand {sys.executable} {__file__} {self._file}"]

    def answer(self, answers: Answers) -> None:
        """Commands that are started from now on have their stdout changed so."""
        self._file.write_text(json.dumps(asdict(answers)))


def _main() -> int:
    answers = Answers(**json.loads(Path(sys.argv[1]).read_text()))
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    if answers == Answers() or "hostile_sftp" in command:  # that server lies for itself
        os.execlp("sh", "sh", "-c", command)
    process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    sink = sys.stdout.buffer
    said = b""
    held = b""
    is_changed = answers.numbers or answers.seed is not None
    while True:
        if held and not select.select([process.stdout], [], [], _PAUSE)[0]:  # it waits for input
            sink.write(answers.of(held))
            sink.flush()
            held = b""
        if not (chunk := os.read(process.stdout.fileno(), _CHUNK_BYTES)):
            break
        said += chunk
        if is_changed:
            held += chunk
            continue
        for text, other in answers.replaced.items():
            chunk = chunk.replace(text.encode("latin-1"), other.encode("latin-1"))
        sink.write(chunk)
        sink.flush()
    if held:
        sink.write(answers.of(held))
    sys.stderr.buffer.write(answers.stderr.encode("utf-8", "replace"))
    if answers.endless_after and answers.endless_after.encode() in said:
        for _ in range(_ENDLESS_BYTES // _CHUNK_BYTES):
            sink.write(b"\0" * _CHUNK_BYTES)
    return process.wait()


if __name__ == "__main__":
    sys.exit(_main())
