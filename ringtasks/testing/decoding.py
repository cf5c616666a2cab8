"""Decode a client's requests: the inverse of `script`, and of ringtasks' own scripts.  Pure.

Nothing here repeats the text of those scripts: they are made with stand-ins for the parts that
vary, and the decoder reads the text in the place of each stand-in.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import NamedTuple

from ringtasks.remote.launcher import JOBS_FOLDER, launch_script
from ringtasks.remote.marks import Mark
from ringtasks.remote.script import RUN_ID_VARIABLE, Script, exec_line, quote
from ringtasks.remote.stop_run import stop_run_script

__all__ = [
    "LaunchRequest",
    "StopRequest",
    "bootstrap_mark",
    "decode_line",
    "decode_payload",
    "launch_in",
    "shell_of",
    "stop_in",
]

# The exec request of `Script.line`: plain, or with the script as an argument of printf's %b.
_LINE = re.compile(
    r"exec (?P<shell>.+?) -c '(?P<plain>[^']*)'(?: sh '(?P<encoded>[^']*)')?\Z", re.S
)
_OCTAL = re.compile(rb"\\0([0-7]{3})")
_MARK = r"ringtasks:[0-9a-f]+:\$\(\(\d+\+\d+\)\)"
_MARK_PARTS = r"ringtasks:([0-9a-f]+):\$\(\((\d+)\+(\d+)\)\)"
_HOME = '"$HOME"'
# Quoted parts joined to one word, as `script.quote` and `script.quoted_path` make it.
_WORD = r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|/)+"""
_PART = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)\"|(/)""", re.S)
_ESCAPED = re.compile(r"\\(.)", re.S)
#: Number of characters on either side that identify a place in a launcher.
_NEIGHBOURS = 8


class StopRequest(NamedTuple):
    """A request to end a run: its process id and mark."""

    pid: int
    run_id: str


class LaunchRequest(NamedTuple):
    """A request to start a background job. ``log_file`` None: the log in the job's folder."""

    job_id: str
    command: str
    log_file: str | None


def bootstrap_mark(command: str | None) -> Mark | None:
    """Return the mark that a program prints before it reads its script from stdin, else None.

    ``command`` is the exec request.
    """
    for is_pty in (False, True):
        found = _bootstrap(is_pty).match(command or "")
        if found:
            return _mark(found["mark"])
    return None


def decode_line(command: str) -> Script | None:
    """Return the script in an exec request; None if it is not a `Script.line`."""
    found = _LINE.match(command)
    if not found:
        return None
    if found["encoded"] is None:
        return _decode(found["plain"], "; ")
    return _decode(_unescape_octal(found["encoded"].encode()), "\n")


def decode_payload(payload: bytes, mark: Mark) -> Script | None:
    """Return the script in a bootstrap's input after ``mark``; None if it is not a payload."""
    prologue, _, statements = _unescape_octal(payload.rstrip(b"\n")).partition("\n")
    return _decode(statements, "\n", mark) if prologue.startswith("unset ") else None


def stop_in(script: Script) -> StopRequest | None:
    """Return the stop request in a script; None if it is not a `stop_run_script`."""
    found = _stop_template().match(script.command)
    return StopRequest(int(found["pid"]), _value(found["run_id"])) if found else None


def launch_in(script: Script, shell: str) -> LaunchRequest | None:
    """Return the background job that a script starts; None if it is not a `launch_script`."""
    job_id, text = script.run_id, script.command
    if JOBS_FOLDER not in text or quote(job_id) not in text:
        return None
    sample = launch_script(job_id, "ANY-COMMAND", "/ANY-LOG", shell)
    commands = [_value(word) for word in _words_like(quote("ANY-COMMAND"), sample, text)]
    logs = [_path(word) or None for word in _words_like(quote("/ANY-LOG"), sample, text)]
    for command, log_file in itertools.product(commands, logs):
        if launch_script(job_id, command, log_file, shell) == text:
            return LaunchRequest(job_id, command, log_file)
    return None


def shell_of(command: str) -> str:
    """Return the shell that an exec request starts."""
    found = re.match(r"exec (.+?) -c '", command)
    return found.group(1) if found else "/bin/sh"


class _Scanner:
    """A reader of a script's statements, one after the other."""

    def __init__(self, text: str, separator: str) -> None:
        self._rest, self._separator = text + separator, re.escape(separator)

    def take(self, statement: str) -> re.Match[str] | None:
        """Remove and return the next statement if it matches; else None."""
        found = re.compile(statement + self._separator, re.S).match(self._rest)
        if found:
            self._rest = self._rest[found.end() :]
        return found

    @property
    def is_at_end(self) -> bool:
        return not self._rest


def _decode(text: str, separator: str, mark: Mark | None = None) -> Script | None:
    """Return the script in ``text``; None if it is none.

    :param mark: the mark that was already printed; None: the text begins with it.
    """
    if mark is None:
        hello, _, text = text.partition(separator)
        found = re.fullmatch(rf"echo ({_MARK}):\$\$", hello)
        if not found:
            return None
        mark = _mark(found.group(1))
    farewell = f"){separator}{mark.farewell}"
    is_own = text.startswith("(") and text.endswith(farewell)
    scanner = _Scanner(text[1 : -len(farewell)] if is_own else text, separator)
    cwd = scanner.take(f"cd ({_WORD}) \\|\\| exit 1")
    venv = _venv(scanner)
    run = scanner.take(f"export {RUN_ID_VARIABLE}=([A-Za-z0-9_-]+)")
    env = {}
    while found := scanner.take(f"export ([A-Za-z_][A-Za-z0-9_]*)=({_WORD})"):
        env[found.group(1)] = _value(found.group(2))
    command = scanner.take(f"eval ({_WORD})")
    in_login_shell = command is None
    if command is None:
        command = scanner.take(f'exec "\\${{SHELL:-/bin/sh}}" -c ({_WORD})')
    if not run or not command or not scanner.is_at_end:
        return None
    return Script(
        _value(command.group(1)),
        cwd=_path(cwd.group(1)) if cwd else None,
        env=env,
        venv=venv,
        run_id=run.group(1),
        in_login_shell=in_login_shell,
        is_own=is_own,
        mark=mark,
    )


def _mark(text: str) -> Mark:
    word, left, right = re.fullmatch(_MARK_PARTS, text).groups()  # type: ignore[union-attr]  # it was found by _MARK
    return Mark(word, int(left), int(right))


def _venv(scanner: _Scanner) -> str | None:
    """Return the sourced file, or the command; either makes the same script again."""
    if found := scanner.take(rf"\. ({_WORD}) \|\| exit 1"):
        file = _path(found.group(1))
        return file if file.endswith("/activate") else f"source {file}"
    if scanner.take(r'command -v source >/dev/null \|\| source\(\) \{ \. "\$@"; \}'):
        found = scanner.take(f"eval ({_WORD}) \\|\\| exit 1")
        return _value(found.group(1)) if found else None
    return None


def _unescape_octal(encoded: bytes) -> str:
    raw = _OCTAL.sub(lambda found: bytes([int(found.group(1), 8)]), encoded)
    return raw.decode("utf-8", "surrogateescape")


def _value(word: str) -> str:
    """Return the shell's value of a word without expansions."""
    return "".join(
        literal + _ESCAPED.sub(r"\1", escaped) + slash
        for literal, escaped, slash in _PART.findall(word)
    )


def _path(word: str) -> str:
    """Return the argument of `script.quoted_path` for this word."""
    if word == _HOME:
        return "~"
    if word.startswith(_HOME + "/"):
        return "~/" + _value(word[len(_HOME) + 1 :])
    return _value(word).removeprefix("./")


class _Template:
    """A text with named stand-ins, as a pattern that finds the text in their places."""

    def __init__(self, text: str, **stand_ins: tuple[str, str]) -> None:
        pattern = re.escape(text)
        for name, (stand_in, form) in stand_ins.items():
            first, *others = pattern.split(re.escape(stand_in))
            pattern = f"{first}(?P<{name}>{form})" + f"(?P={name})".join(others)
        self._pattern = re.compile(pattern + r"\Z", re.S)

    def match(self, text: str) -> re.Match[str] | None:
        return self._pattern.match(text)


@cache
def _bootstrap(is_pty: bool) -> _Template:
    mark = Mark("0", 1, 2)
    text = exec_line(mark, "ANY-SHELL", pty=is_pty)
    stand_in = mark.hello.removeprefix("echo ").removesuffix(":$$")
    return _Template(text, program=("ANY-SHELL", ".+?"), mark=(stand_in, _MARK))


@cache
def _stop_template() -> _Template:
    pid, grace_cs, age_cs = 987650001, 987650002, 987650003
    text = stop_run_script(pid, "ANY-RUN", grace=grace_cs / 100, age=age_cs / 100)
    return _Template(
        text,
        pid=(str(pid), r"\d+"),
        age_cs=(str(age_cs), r"\d+"),
        run_id=(quote("ANY-RUN"), _WORD),
        grace_cs=(str(grace_cs), r"\d+"),
    )


def _words_like(word: str, sample: str, text: str) -> list[str]:
    """Return the words in ``text`` between the neighbours that ``word`` has in ``sample``."""
    found: list[str] = []
    for at in re.finditer(re.escape(word), sample):
        before = re.escape(sample[: at.start()][-_NEIGHBOURS:])
        after = re.escape(sample[at.end() :][:_NEIGHBOURS])
        found += re.findall(f"{before}({_WORD}){after}", text, re.DOTALL)
    return found
