"""Commands that prepare a host for a run, not repeated while their dependencies are the same.

They depend on their own text, the virtual environment, and the files that they name or that are
given.  A stamp, ``~/.ringtasks/setup/KEY``, records that they have succeeded; if they changed the
run's folder, for that folder only.
"""

from __future__ import annotations

import contextlib
import posixpath
import shlex
from collections.abc import Callable, Iterator, Sequence

from ringtasks.client.ask import Ask
from ringtasks.client.result import last_words
from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import RunNotStartedError
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import activation, quoted_path

__all__ = ["set_up"]

#: The exit status if there was nothing to do.
_DONE_BEFORE = 76

_PROGRAM = Program(__file__, "set_up.sh")


def set_up(
    client: SSHClient,
    commands: Sequence[str],
    inputs: Sequence[str],
    cwd: str,
    env: dict[str, str],
    on_output: Callable[[int, bytes], None],
) -> bool:
    """Run the commands in the run's folder, unless that was done; return whether they ran now.

    The virtual environment is activated if it exists: the commands may be the ones that make it.

    :raises RunNotStartedError: one of them failed, or the host was lost.
    """
    venv = client.config.venv_activate
    text = "\n".join(commands)
    script = _PROGRAM.render(
        rt_cwd=Word(quoted_path(cwd)),
        rt_commands=text,
        rt_key=f"{venv}\n{text}",
        rt_activate=activation(venv) if venv else "",
        rt_done_before=_DONE_BEFORE,
        inputs=_inputs(commands, inputs),
    )
    result = client.ask(Ask(script, timeout=0, env=env, on_output=on_output))
    if result.success:
        return True
    if result.error is None and result.returncode == _DONE_BEFORE:
        return False
    status, words = f"exit status {result.returncode}", last_words(result)
    why = result.error or (words if words == status else f"{status}: {words}")
    raise RunNotStartedError(
        client.config.id, f"its setup failed: {why}", is_unreachable=result.error is not None
    )


def _inputs(commands: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Return the inputs, and the words of the commands that may be paths in the run's folder."""
    words = list(inputs)
    for command in commands:
        with contextlib.suppress(ValueError):
            words += _possible_paths(command)
    kept = (word for word in words if "\n" not in word and ".." not in word.split("/"))
    return [f"./{posixpath.normpath(word)}" for word in dict.fromkeys(kept)]


def _possible_paths(command: str) -> Iterator[str]:
    """Yield the words, and their parts that may be a path, as in ``-rPATH`` and ``--file=PATH``."""
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.commenters, words.whitespace_split = "", True
    for word in words:
        option = word[2:] if word.startswith("-") else ""
        parts = (word, word.partition("=")[2], word.partition("[")[0], option)
        yield from (part for part in parts if part and not part.startswith(("-", "/", "~")))
