"""A host whose programs are real, and whose answers are not: they are changed on the way.

It stands in front of every command of a real sshd (``ForceCommand``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Answers", "HostileShell"]

_CHUNK_BYTES = 64 * 1024
_ENDLESS_BYTES = 4 * 1024**3  # where a client takes it all, the test is over some time


@dataclass
class Answers:
    """What is done to the stdout of each command.

    :param replaced: texts, and what comes in their place.
    :param endless_after: an output that has this text in it goes on for ever.
    """

    replaced: dict[str, str] = field(default_factory=dict)
    endless_after: str = ""


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
    process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    sink = sys.stdout.buffer
    said = b""
    while chunk := os.read(process.stdout.fileno(), _CHUNK_BYTES):
        said += chunk
        for text, other in answers.replaced.items():
            chunk = chunk.replace(text.encode("latin-1"), other.encode("latin-1"))
        sink.write(chunk)
        sink.flush()
    if answers.endless_after and answers.endless_after.encode() in said:
        for _ in range(_ENDLESS_BYTES // _CHUNK_BYTES):
            sink.write(b"\0" * _CHUNK_BYTES)
    return process.wait()


if __name__ == "__main__":
    sys.exit(_main())
