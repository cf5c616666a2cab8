"""The program in front of every command of a `HostileShell`: changes what the command prints.

It starts with each command, so it imports little: its arguments are a file with the fields of
`Answers`, none of them for an honest host.
"""

from __future__ import annotations

import marshal
import os
import select
import sys
from collections.abc import Mapping
from typing import Any

_CHUNK_BYTES = 64 * 1024
_PAUSE = 0.1  # seconds
_ENDLESS_BYTES = 4 * 1024**3  # where a client takes it all, the test is over some time


def _changed(said: bytes, answers: Mapping[str, Any]) -> bytes:
    """Return the replacement of a whole output."""
    import random
    import re

    lines = said.decode("latin-1").split("\n")
    marks = [at for at, line in enumerate(lines) if line.startswith("ringtasks:")]
    seed = answers["seed"]
    chance = random.Random(f"{seed} {said!r}")
    if seed is not None and chance.random() < 0.2:  # the marks, too
        return _mutated(said.decode("latin-1"), chance).encode("utf-8")
    first, last = (marks[0] + 1, marks[-1]) if len(marks) > 1 else (len(lines), len(lines))
    inside = "\n".join(lines[first:last])
    if answers["numbers"]:
        inside = re.sub(r"\d+", answers["numbers"], inside)
    if seed is not None:
        inside = _mutated(inside, chance)
    return "\n".join([*lines[:first], inside, *lines[last:]]).encode("utf-8", "replace")


def _mutated(text: str, chance: Any) -> str:
    sys.path.insert(0, __file__.rsplit("/", 3)[0])
    from tests.support.mutations import mutated

    return mutated(text, chance)


def _start(command: str) -> tuple[int, int]:
    """Start a command; return its process id, and a descriptor of its stdout."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 1)
        os.execlp("sh", "sh", "-c", command)
    os.close(theirs)
    return pid, ours


def _print(content: bytes) -> None:
    while content:
        content = content[os.write(1, content) :]


def _pass_on(output: int, answers: Mapping[str, Any]) -> bytes:
    """Print the output with its changes; return it without them."""
    said = held = b""
    while True:
        if held and not select.select([output], [], [], _PAUSE)[0]:  # it waits for input
            _print(_changed(held, answers))
            held = b""
        if not (chunk := os.read(output, _CHUNK_BYTES)):
            break
        said += chunk
        if answers["numbers"] or answers["seed"] is not None:
            held += chunk
            continue
        for text, other in answers["replaced"].items():
            chunk = chunk.replace(text.encode("latin-1"), other.encode("latin-1"))
        _print(chunk)
    if held:
        _print(_changed(held, answers))
    return said


def _main() -> int:
    with open(sys.argv[1], "rb") as file:  # noqa: PTH123  # importing pathlib takes longer
        answers = marshal.load(file)
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    if not answers or "hostile_sftp" in command:  # that server lies for itself
        os.execlp("sh", "sh", "-c", command)
    pid, output = _start(command)
    said = _pass_on(output, answers)
    os.write(2, answers["stderr"].encode("utf-8", "replace"))
    if answers["endless_after"] and answers["endless_after"].encode() in said:
        for _ in range(_ENDLESS_BYTES // _CHUNK_BYTES):
            _print(b"\0" * _CHUNK_BYTES)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(_main())
