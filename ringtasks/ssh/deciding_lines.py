"""The lines of ssh's files that decide an answer of ``ssh -G``.

Hosts that the same ``Host`` lines name get the same answer, but for their names, if nothing else in
the files depends on the name (ssh_config(5), PATTERNS; ``match.c``, match_pattern).  This module
reads plain lines only: a file with any other line that may matter has no kinds of hosts.  OpenSSH
stays the judge: an answer is shared only if ssh's debug lines about the host that it was asked for
are those that this reading expects (`HostKind.is_proven`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from ringtasks.common.light_typing import NamedTuple

__all__ = ["APPLYING", "READING", "HostKind", "decides", "kind_of"]

# Lines of ``ssh -v`` (readconf.c).
_LEVEL = "debug1: "
READING, APPLYING = _LEVEL + "Reading configuration data ", ": Applying options for "
_NEGATED = ": Skipping Host block because of negated match for "
_SAID = (READING, APPLYING, _NEGATED)
#: Keywords in whose values ``ssh -G`` replaces variables, or may.
_WITH_VARIABLES = ("include", "forwardagent", "identityagent", "userknownhostsfile",
                   "localforward", "remoteforward")  # fmt: skip
_IN_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
#: ssh and `fnmatch` agree about these; ``#``, quotes and backslashes mean more to newer releases.
_IN_PATTERNS = _IN_NAMES | frozenset("*?!: \t")

_OCTETS = frozenset(map(str, range(256)))


@functools.lru_cache(maxsize=64)
def decides(text: str) -> bool:
    """Return False if more than the text of a file decides: programs, networks or variables.

    Or files that are included from folders without fixed names.
    """
    return not any(map(_is_undecided, text.lower().split("\n")))


def _is_undecided(line: str) -> bool:
    # No regular expression: to compile it takes longer than to look at usual files.
    plain = line.replace("\t", " ").replace("=", " ").replace('"', " ")
    keyword, _, value = plain.strip().partition(" ")
    if keyword == "match":
        return "exec" in value or "localnetwork" in value
    has_variables = keyword in _WITH_VARIABLES and "$" in value
    folder = value.rpartition("/")[0]
    return has_variables or (keyword == "include" and not {*"*?["}.isdisjoint(folder))


class HostKind(NamedTuple):
    """The lines of ssh's files that are for a host; equal keys: equal answers.

    :ivar lines: keyword and value of those that may depend on the host's name.
    :ivar messages: the lines of ssh that this reading expects.
    """

    key: tuple[object, ...]
    lines: tuple[tuple[str, str], ...]
    messages: frozenset[str]

    @property
    def has_name(self) -> bool:
        """True: HostName is configured."""
        return any(keyword == "hostname" for keyword, _ in self.lines)

    def is_proven(self, host: str, log: Iterable[str], values: Mapping[str, Iterable[str]]) -> bool:
        """Return True if ssh's answer about ``host`` shows that others of this kind get the same.

        :param log: the lines that ``ssh -vv -G`` printed on stderr.
        :param values: those of its answer, before any is left out.
        """
        said = {line.removeprefix(_LEVEL) for line in log if any(map(line.__contains__, _SAID))}
        is_own = [*values["hostname"]] == [host.lower()]
        return said == self.messages and (is_own or self.has_name) and self._is_verbatim(values)

    def _is_verbatim(self, values: Mapping[str, Iterable[str]]) -> bool:
        """Return True if ssh has replaced no token, such as that of the host's name."""
        return all(
            word.strip("\"'") in " ".join(values.get(keyword, ()))
            for keyword, value in self.lines
            for word in value.split()
            if "%" in word
        )


def kind_of(host: str, files: tuple[tuple[str, str], ...]) -> HostKind | None:
    """Return the kind of a host; None: ssh may have an answer for it alone.

    :param files: path and text of all files that ssh reads.
    """
    if not _is_plain_name(host):
        return None
    states: list[bool | None] = []
    lines: list[tuple[str, str]] = []
    messages = {READING.removeprefix(_LEVEL) + path for path, _ in files}
    for path, text in files:
        read = _read(text)
        if read is None or host.lower() in read.jumps:
            return None
        lines += read.lines_for_all
        for block in read.blocks:
            pattern = _deciding(host, block.patterns)
            applies = bool(pattern) and not pattern.startswith("!")
            states.append(pattern == "*" if applies else None)
            if pattern:
                message = APPLYING if applies else _NEGATED
                messages.add(f"{path} line {block.number}{message}{pattern.removeprefix('!')}")
            if applies:
                lines += block.lines
    return HostKind((files, tuple(states)), tuple(lines), frozenset(messages))


class _Block(NamedTuple):
    """The lines below a ``Host`` line that may depend on the host's name."""

    number: int
    patterns: list[str]
    lines: list[tuple[str, str]]


class _HostLines(NamedTuple):
    """A file's blocks, the lines that are for all hosts, and the values of ProxyJump."""

    blocks: list[_Block]
    lines_for_all: list[tuple[str, str]]
    jumps: str


@functools.lru_cache(maxsize=64)
def _read(text: str) -> _HostLines | None:
    """Return the blocks of a file; None: one of its lines may mean something else to ssh."""
    found = _HostLines([], [], "")
    lines = found.lines_for_all
    for number, line in enumerate(text.split("\n"), 1):
        keyword, value = _split(line)
        if keyword == "host" and _IN_PATTERNS.issuperset(value):
            found.blocks.append(_Block(number, value.split(), []))
            lines = found.blocks[-1].lines
        elif keyword == "match" and value.lower() == "all":
            lines = found.lines_for_all
        elif _is_for_its_host_alone(keyword, value, lines is found.lines_for_all):
            return None
        elif keyword == "proxyjump":  # ssh refuses to jump to a host over itself
            found = found._replace(jumps=f"{found.jumps} {value.lower()}")
        if keyword == "hostname" or ("%" in value and keyword != "controlpath"):
            lines.append((keyword, value))
    return found


def _is_for_its_host_alone(keyword: str, value: str, is_for_all: bool) -> bool:
    """Return True if the value may depend on more than the ``Host`` lines that apply."""
    return (
        bool(keyword and not (keyword.isascii() and keyword.isalnum()))
        or keyword in ("host", "match")
        or keyword.startswith("canonical")
        or (keyword == "include" and "%" in value)
        # A file may be included below a Host line: its first lines are not for all hosts then.
        or (keyword == "hostname" and is_for_all)
    )


def _split(line: str) -> tuple[str, str]:
    """Return keyword and value of a line; both are empty if it has none (readconf.c, strdelim)."""
    plain = line.rstrip(" \t\r\f").lstrip(" \t\r")
    if not plain or plain[0] == "#":
        return "", ""
    keyword = plain.replace("\t", " ").replace("=", " ").partition(" ")[0]
    value = plain[len(keyword) :].lstrip(" \t").removeprefix("=").lstrip(" \t")
    return keyword.lower(), value


def _deciding(host: str, patterns: list[str]) -> str:
    """Return the pattern of a ``Host`` line that decides: the first, or a negated one; or none."""
    found = ""
    for pattern in patterns:
        if fnmatchcase(host, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return pattern
            found = found or pattern
    return found


def _is_plain_name(host: str) -> bool:
    """Return True if ssh takes the name as it is, not as a URL, a user's, or a short address."""
    if not _IN_NAMES.issuperset(host) or host[0] in "._-":
        return False
    parts = host.split(".")
    return host[0].isalpha() or (len(parts) == 4 and all(map(_OCTETS.__contains__, parts)))
