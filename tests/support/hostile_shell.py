"""A host whose programs are real, and whose answers are not: they are changed on the way.

It stands in front of every command of a real sshd (``ForceCommand``).
"""

from __future__ import annotations

import marshal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Answers", "HostileShell"]

_PROGRAM = Path(__file__).with_name("hostile_program.py")


@dataclass
class Answers:
    """Change the stdout of each command.

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
        return [f"ForceCommand {sys.executable} -I -S {_PROGRAM} {self._file}"]

    def answer(self, answers: Answers) -> None:
        """Commands that are started from now on have their stdout changed so."""
        is_honest = answers == Answers()
        self._file.write_bytes(marshal.dumps({} if is_honest else asdict(answers)))
