"""A command with its folder, environment and virtual environment as text for a remote POSIX shell.

There are two ways to send it.  The text that sshd passes to the login shell must mean the same to
bash, zsh, fish, tcsh, dash and BusyBox ash:

* in the exec request itself (`Script.line`), as ssh does: the fast way, and as visible in the
  host's process list as the command that it starts;
* on stdin (`Script.payload`), if it has something to hide (an environment) or is too long for some
  servers: the exec request (`Script.start_line`) holds no secret, and one line of printable ASCII
  follows, which the shell decodes with ``printf %b`` and evaluates.  That costs another round trip,
  because sshd takes no stdin before the program runs.  A payload that was cut short has no newline,
  so ``read`` fails and nothing runs: until the last byte is sent, the command cannot have started.

In both ways the shell first prints the exchange's mark with its process id (`marks`).  The mark
proves that the script runs, separates its output from that of login files, and gives the process to
stop.  A payload is sent after the mark has come, so a program that runs in the script's place on
the host sees no environment.

Sources: POSIX.1-2017 XCU 2.14 (``eval``, ``export``), ``read``, ``printf`` (``%b``), ``kill``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from .marks import Mark

__all__ = [
    "GIVE_UP",
    "RUN_ID_VARIABLE",
    "ExecRequest",
    "Script",
    "activation",
    "check_text",
    "is_variable_name",
    "one_line",
    "quote",
]

#: Marks every process of a run in its environment, so that remaining ones can be found in /proc.
RUN_ID_VARIABLE = "RINGTASKS_RUN_ID"

# Compiled at first use: most runs need none of them.
_UNSAFE_BYTE = rb"[^A-Za-z0-9_ ./:=,@%+'\"$(){}|&;<>*?~#!^-]"
_UNSAFE_IN_QUOTES = rb"[^A-Za-z0-9_ ./:=,@%+\"$(){}|&;<>*?~#^-]"
#: What has a meaning between double quotes (XCU 2.2.3).
_ESCAPES = str.maketrans({char: f"\\{char}" for char in '\\$`"'})
#: Below Dropbear's limit for a command (its sysoptions.h, MAX_CMD_LEN: 9000), which ends the
#: connection at a longer one; execve(2) takes 128 KiB (MAX_ARG_STRLEN).
_MAX_LINE_BYTES = 8900

#: A line that ends another shell that runs in place of ours and waits for commands; the bootstrap
#: ignores it.
GIVE_UP = b"exit\n"
# No quote, backslash or newline inside: it stands between single quotes in any login shell.
# A terminal would echo the payload and cut it at 4096 bytes (termios(3), canonical mode); a forced
# command that records sessions, such as script(1), makes one unasked.
_BOOTSTRAP = (
    "TTY=; if test -t 0; then TTY=$(stty -g); stty raw -echo; fi; "
    '{mark.hello}; s=exit; while [ "$s" = exit ]; do '
    "IFS= read -r s || {{ {mark.unread}; exit 1; }}; done; "
    'test -z "$TTY" || stty "$TTY"; eval "$(printf %b "$s")"'
)
# A host that refuses a terminal starts the shell all the same, which must not run the payload.
_NEEDS_TERMINAL = "test -t 0 || exit 1; "


class ExecRequest(str):
    """An exec request, with its script, from which a fake host knows what it is asked for.

    :ivar awaits_payload: the script follows on stdin, once its mark has come.
    """

    script: Script
    awaits_payload: bool


class Script:
    """One command with its folder, environment and virtual environment.

    ``cwd`` and ``venv`` may start with ``~`` (the remote home); any other character is literal.
    ``venv`` is a virtual environment's folder, its ``activate`` file, or a shell command such as
    ``source ~/app/venv/bin/activate``.  The environment applies to the command alone.

    :param in_login_shell: the user's login shell runs the command, as under sshd, and not the shell
        that reads the script.
    :param is_own: the command is a script of ringtasks: it runs in a subshell, and the mark with
        its exit status follows its output.
    :raises ValueError: the command is empty, a text holds a NUL, or a shell variable cannot have a
        given name.
    :raises TypeError: a value is not text.
    """

    def __init__(
        self,
        command: str,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        venv: str | None = None,
        run_id: str = "0",
        *,
        in_login_shell: bool = False,
        is_own: bool = False,
        mark: Mark | None = None,
    ) -> None:
        self.command, self.cwd, self.venv, self.run_id = command, cwd, venv, run_id
        self._in_login_shell = in_login_shell
        self.is_own, self.mark = is_own, mark or Mark.new()
        self.env: Mapping[str, str] = {} if env is None else env
        self._check()

    def _check(self) -> None:
        check_text("command", self.command)
        for name, value in (("cwd", self.cwd), ("venv", self.venv)):
            if value is not None:
                check_text(name, value)
        if not self.command.strip():
            raise ValueError("command: is empty")
        if not self.run_id or not is_variable_name(f"_{self.run_id.replace('-', '_')}"):
            raise ValueError(f"run_id: {self.run_id!r} is not a word of letters, digits, - and _")
        if not isinstance(self.env, Mapping):
            raise TypeError(f"env: expected a mapping, got {type(self.env).__name__}")
        for name, value in self.env.items():
            if not isinstance(name, str):
                raise TypeError(f"env: expected a name, got {type(name).__name__}")
            if not is_variable_name(name):
                raise ValueError(f"env: {name!r} is not a variable name (letters, digits, _)")
            check_text(f"env: {name}", value)

    def text(self) -> str:
        """Return the script, to be evaluated by the bootstrap's shell."""
        return "\n".join(["unset s TTY", *self._statements(quote, "\n")])

    def line(self, shell: str = "/bin/sh") -> ExecRequest | None:
        """Return the exec request that runs the script; None if it has to be sent on stdin."""
        if self.env:
            return None
        plain = "; ".join([self.mark.hello, *self._statements(_double_quoted, "; ")])
        if _is_plain(plain):
            line = f"exec {shell} -c '{plain}'"
        else:
            text = [self.mark.hello, *self._statements(quote, "\n")]
            line = one_line("\n".join(text), shell)
        return self._request(line) if len(line) <= _MAX_LINE_BYTES else None

    def start_line(self, shell: str = "/bin/sh", *, pty: bool = False) -> ExecRequest:
        """Return the exec request that starts a shell to wait for `payload` on stdin; no secret.

        The payload may be sent after the mark has come.
        """
        bootstrap = f"{_NEEDS_TERMINAL * pty}{_BOOTSTRAP.format(mark=self.mark)}"
        return self._request(f"exec {shell} -c '{bootstrap}'", awaits_payload=True)

    def _request(self, line: str, *, awaits_payload: bool = False) -> ExecRequest:
        request = ExecRequest(line)
        request.script, request.awaits_payload = self, awaits_payload
        return request

    def _statements(self, quoted: Callable[[str], str], separator: str) -> Iterator[str]:
        if self.is_own:
            yield f"({separator.join(self._body(quoted))})"
            yield self.mark.farewell
        else:
            yield from self._body(quoted)

    def _body(self, quoted: Callable[[str], str]) -> Iterator[str]:
        if self.cwd is not None:
            yield f"cd {quoted_path(self.cwd, quoted)} || exit 1"
        if self.venv is not None:
            yield from _activate(self.venv, quoted)
        yield f"export {RUN_ID_VARIABLE}={self.run_id}"
        for name, value in self.env.items():
            yield f"export {name}={quoted(value)}"
        if self._in_login_shell:
            yield f'exec "${{SHELL:-/bin/sh}}" -c {quoted(self.command)}'
            return
        # Evaluated from a quoted string: a syntax error in it cannot affect the lines above.
        yield f"eval {quoted(self.command)}"

    def payload(self) -> bytes:
        """Return the script as the one line that the bootstrap reads from stdin."""
        return re.sub(_UNSAFE_BYTE, _octal, encode(self.text())) + b"\n"


def one_line(text: str, shell: str = "/bin/sh") -> str:
    """Return the exec request that evaluates ``text`` in ``shell``, under any login shell.

    Only ``text`` writes to stdout.
    """
    encoded = re.sub(_UNSAFE_IN_QUOTES, _octal, encode(text)).decode()
    return f"exec {shell} -c 'eval \"$(printf %b \"$1\")\"' sh '{encoded}'"


def is_variable_name(name: str) -> bool:
    """Return True if a shell variable can have this name (XBD 3.231)."""
    return name.isascii() and name.isidentifier()


def quote(text: str) -> str:
    """Return ``text`` as one literal word of a POSIX shell (XCU 2.2.2).

    :raises ValueError: ``text`` holds a NUL, which no argument can hold.
    """
    check_text("text", text)
    return "'" + text.replace("'", "'\"'\"'") + "'"


def quoted_path(text: str, quoted: Callable[[str], str] = quote) -> str:
    """Return a path as one literal word that is never an option; ``~`` is the remote home."""
    if text == "~":
        return '"$HOME"'
    if text.startswith("~/"):
        return '"$HOME"/' + quoted(text[2:])
    # "./" keeps "-", "-P" and CDPATH from meaning anything.
    return quoted(text if text.startswith("/") else "./" + text)


def encode(text: str) -> bytes:
    """Return ``text`` as UTF-8; a surrogate escape (PEP 383) becomes its byte."""
    return text.encode("utf-8", "surrogateescape")


def activation(venv: str) -> str:
    """Return text that activates a virtual environment, or exits the shell if that fails."""
    return "\n".join(_activate(venv, quote))


def _activate(venv: str, quoted: Callable[[str], str]) -> Iterator[str]:
    venv = venv.strip()
    file = re.fullmatch(r"(?:source|\.)\s+([^\s'\";&|]+)", venv)
    if file:
        yield f". {quoted_path(file.group(1), quoted)} || exit 1"
    elif re.match(r"~?/|\./|[^\s;&|]+\Z", venv):
        file_path = venv if venv.endswith("/activate") else venv + "/bin/activate"
        yield f". {quoted_path(file_path, quoted)} || exit 1"
    else:
        # Such as "conda activate train". dash and ash know bash's "source" as "." only.
        yield 'command -v source >/dev/null || source() { . "$@"; }'
        yield f"eval {quoted(venv)} || exit 1"


def _is_plain(text: str) -> bool:
    """Return True if every login shell takes the text literally between single quotes.

    csh would expand ``!``, and end the word at a newline; fish reads two backslashes as one.
    """
    has_meaning = "'" in text or "!" in text or "\\\\" in text
    return not has_meaning and text.isascii() and text.isprintable()


def _double_quoted(text: str) -> str:
    """Return ``text`` as one literal word in double quotes."""
    return f'"{text.translate(_ESCAPES)}"'


def _octal(byte: re.Match[bytes]) -> bytes:
    return b"\\0%03o" % ord(byte.group())


def check_text(name: str, value: object) -> None:
    """Refuse a value that no argument of a program can hold.

    :raises TypeError: it is not text.
    :raises ValueError: it has a NUL.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected text, got {type(value).__name__}")
    if "\0" in value:
        raise ValueError(f"{name}: has a NUL character")
