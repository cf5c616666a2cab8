"""Values of OpenSSH options: quoted for the parsers that they pass through, or expanded.

A value passes through up to three parsers, each with its own quoting: ssh's tokenizer
(``misc.c``, ``argv_split``), its percent expansion (ssh_config(5), TOKENS), and for ProxyCommand a
shell.  ``ssh -G`` prints the values as they are written, and ssh expands them when it uses them.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from ringtasks.common import one_look
from ringtasks.errors import UsageError

__all__ = [
    "Tokens",
    "expand",
    "expand_path",
    "expand_proxy_command",
    "expand_variables",
    "jump_hosts",
    "path_value",
    "percent",
    "quoted",
    "token_values",
]

#: ssh_config(5), TOKENS: those of ProxyCommand and ProxyJump.
_OF_PROXIES = "%hnpr"
_local_host = one_look.kept(socket.gethostname)
_PERCENT = r"(?s)%(.?)"
_VARIABLE = r"\$\{(\w*)\}"
_PLAIN_VALUE = r"[A-Za-z0-9_./:,@%+=^\[\]-]+\Z"


def quoted(value: str) -> str:
    """Return ``value`` quoted as one token for ``argv_split``."""
    if re.match(_PLAIN_VALUE, value):
        return value
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def path_value(path: Path) -> str:
    """Return a path, escaped for an option with percent expansion.

    :raises UsageError: ssh cannot be given it.
    """
    text = str(path)
    if "${" in text or "\n" in text:  # ssh would expand "${" and has no escape for it
        raise UsageError(f"{text!r}: ssh cannot use a path with '${{' or a newline in it")
    return percent(text)


def percent(text: str) -> str:
    """Return ``text`` escaped for percent expansion."""
    return text.replace("%", "%%")


def token_values(
    *, name: str, address: str, port: int | str, user: str, local_user: str = "", alias: str = ""
) -> dict[str, str]:
    """Return the value of each token that is known before the connection.

    The others are those of a release of ssh (`Tokens`).

    :param name: the host as it was given.
    :param address: the host after HostName.
    :param alias: HostKeyAlias.
    """
    return {
        "%": "%",
        "d": os.path.expanduser("~"),  # noqa: PTH111  # a string is wanted
        "h": address,
        "i": str(os.getuid()),
        "k": alias or name,
        "L": _local_host().partition(".")[0],
        "l": _local_host(),
        "n": name,
        "p": str(port),
        "r": user,
        "u": local_user or user,
    }


class Tokens(dict[str, str]):
    """The values of tokens; one that is not among them is computed by ssh itself (``%C``).

    :param of_ssh: returns the value of a token; None: ssh does not have it either.
    """

    def __init__(self, values: Mapping[str, str], of_ssh: Callable[[str], str | None]) -> None:
        super().__init__(values)
        self._of_ssh = of_ssh

    def __missing__(self, name: str) -> str:
        value = self._of_ssh(name)
        if value is None:
            raise KeyError(name)
        self[name] = value
        return value


def expand(text: str, values: Mapping[str, str], keyword: str) -> str:
    """Return ``text`` with its tokens replaced.

    :param keyword: the keyword of the value, for the error.
    :raises UsageError: it has a token that is not in ``values``: ssh would end, too.
    """

    def value(token: re.Match[str]) -> str:
        try:
            return values[token[1]]
        except KeyError:
            known = " ".join(f"%{name}" for name in values)
            raise UsageError(
                f"ssh_config: {keyword} {text}: %{token[1]} is not known before the log-in: "
                f"there are {known}"
            ) from None

    return re.sub(_PERCENT, value, text)


def expand_proxy_command(command: str, values: Mapping[str, str]) -> str:
    """Return a ProxyCommand with its tokens replaced: ssh has only some of them there.

    :raises UsageError: it has another token.
    """
    return expand(command, _of_proxies(values), "ProxyCommand")


def jump_hosts(jumps: str | None, values: Mapping[str, str]) -> list[str]:
    """Return the jump hosts of a ProxyJump, the first one first, with their tokens replaced.

    :raises UsageError: one has a token that ssh does not have there.
    """
    if not jumps or jumps == "none":
        return []
    own = _of_proxies(values)
    return [expand(jump.strip(), own, "ProxyJump") for jump in jumps.split(",")]


def _of_proxies(values: Mapping[str, str]) -> dict[str, str]:
    return {name: values[name] for name in _OF_PROXIES}


def expand_path(text: str, values: Mapping[str, str], keyword: str) -> str:
    """Return a path with its variables and tokens replaced, and a home folder in front.

    :raises UsageError: there is no such user, or `expand_variables` raises it.
    """
    path = os.path.expanduser(  # noqa: PTH111  # a string is wanted
        expand_variables(text, values, keyword)
    )
    if path.startswith("~"):
        raise UsageError(f"ssh_config: {keyword} {text}: there is no such user")
    return path


def expand_variables(text: str, values: Mapping[str, str], keyword: str) -> str:
    """Return ``text`` with its variables (``${NAME}``) and tokens replaced.

    :raises UsageError: a variable is not set, or `expand` raises it.
    """

    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise UsageError(
                f"ssh_config: {keyword} {text}: the environment variable {found[1]} is not set"
            )
        return os.environ[found[1]].replace("%", "%%")

    return expand(re.sub(_VARIABLE, variable, text), values, keyword)
