"""The questions to ``ssh -G``, one for all hosts of a run that get the same answer.

Only runs without kept answers load this module (`evaluated_config`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
from _thread import get_ident
from collections.abc import Iterable, Mapping

from ringtasks.common import one_look
from ringtasks.common.fork import RenewedLock
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.text import printable
from ringtasks.errors import UsageError

from . import kept_answers, openssh
from .deciding_lines import APPLYING, READING, HostKind, decides, kind_of
from .kept_answers import KeptAnswer, Question
from .settings_files import (
    NO_FILE,
    Version,
    file_arguments,
    files_of,
    include_patterns,
    joined_path,
    local_user,
    read_files,
    text_of,
    user_file,
    version_of,
    versions_of,
)

__all__ = ["answer_of_ssh", "begin", "end", "token_of_ssh"]

#: Keywords that take one more value with each line.
_LISTS = frozenset({"identityfile", "certificatefile", "sendenv", "setenv", "localforward",
                    "remoteforward", "dynamicforward"})  # fmt: skip
#: Values that ``ssh -F none -G`` cannot tell from configured ones, since it names the host itself.
_ALWAYS_KEPT = frozenset({"hostname", "user", "port"})
#: A ProxyCommand of ours, that of `generated_config`, and the keywords beside it.
_OWN_PROGRAM = r"ringtasks['\"]? connect "
_OWN_PROXY = r"ringtasks'? connect --inventory "
_OWN_PROXY_KEYWORDS = frozenset({"proxycommand", "proxyusefdpass"})
_OWN_KEYWORDS = frozenset({"proxycommand", "hostkeyalias", "userknownhostsfile", "controlpath",
                           "globalknownhostsfile", "stricthostkeychecking", "controlmaster",
                           "knownhostscommand", "identitiesonly", "proxyusefdpass"})  # fmt: skip
#: The criteria of a ``Match`` line that name hosts other than all, or all but some.
_OF_HOSTS = r"(?i)(?:^|\s)(?:original)?host[\s=]+(?!\"?(?:[^\s,\"]*,)*\*(?:[\s,\"]|$))"
# Lines of ``ssh -vv``.
_CHECKING, _FOUND = "debug2: checking match for '", "debug2: match found"


def token_of_ssh(question: Question, name: str) -> str | None:
    """Return the value of a token; None: ssh does not have it.

    Its answer has the tokens of ControlPath replaced.
    """
    try:
        output, _ = _run(["-o", f"ControlPath=/%{name}", *_arguments(question)], 10.0)
    except UsageError:
        return None
    return _parsed(output)["controlpath"][0].removeprefix("/")


class _AnswerOfSSH(NamedTuple):
    """ssh's answer, for the host that was asked about.

    :ivar is_shared: other hosts of the same kind get it, too (`deciding_lines`).
    """

    host: str
    values: dict[str, tuple[str, ...]]
    is_alias: bool
    versions: Mapping[str, Version] | None
    is_shared: bool = False
    error: UsageError | None = None


class _Asking(NamedTuple):
    """A question to ssh; equal to those that have the same answer, but for the host's name."""

    question: Question
    kind: HostKind
    timeout: float

    def __hash__(self) -> int:
        return hash(self.kind.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asking) and self._alike() == other._alike()

    def _alike(self) -> tuple[object, ...]:
        return self.question._replace(host=""), self.kind.key, self.timeout


class _AnswerUnderWay(NamedTuple):
    """A process that works on an answer, and the files as they were before."""

    process: subprocess.Popen[bytes]
    before: Mapping[str, Version]


#: Those of `begin`, by the thread.
_begun: dict[tuple[int, Question], _AnswerUnderWay] = {}


def begin(question: Question) -> None:
    """Let ssh work on its answer, until this thread asks for it or calls `end`."""
    with contextlib.suppress(OSError, UsageError):  # `answer_of_ssh` will raise it
        _begun[get_ident(), question] = _begin(question)


def _begin(question: Question) -> _AnswerUnderWay:
    before = {file: version_of(file) for file in read_files(question.file)}
    return _AnswerUnderWay(_started(_arguments(question)), before)


def end(question: Question) -> None:
    """End the process of `begin`, if this thread did not ask for the answer."""
    if (unused := _begun.pop((get_ident(), question), None)) is not None:
        openssh.end(unused.process)


def answer_of_ssh(question: Question, timeout: float) -> KeptAnswer:
    """Ask ssh, or use its answer about another host of this run, if that is the same.

    :param timeout: seconds for the whole answer; ``Match exec`` may run programs.
    :raises UsageError: ssh cannot use its files; the message has its own words.
    """
    # Only in a run other hosts may have the same answer.
    kind = kind_of(question.host, _texts(question.file)) if one_look.is_shared() else None
    if kind is None:
        answer = _answer(question, timeout)
    else:
        answer = _answer_in_run(_Asking(question, kind, timeout))
    values = _without_own(answer.values, question)
    return KeptAnswer(values, answer.is_alias, answer.versions)


def _answer_in_run(asking: _Asking) -> _AnswerOfSSH:
    host = asking.question.host
    answer = _answer_for_kind(asking)
    if answer.host == host:
        if answer.error is not None:
            raise answer.error
        return answer
    if not answer.is_shared:
        return _answer(asking.question, asking.timeout)
    own = {"host": (host,)}
    if not asking.kind.has_name:
        own["hostname"] = (host.lower(),)
    printed = {keyword: value for keyword, value in own.items() if keyword in answer.values}
    return answer._replace(values=answer.values | printed)


@one_look.kept
def _answer_for_kind(asking: _Asking) -> _AnswerOfSSH:
    """Return the answer for one host of a kind; those for other hosts of the kind wait for it."""
    try:
        return _answer(asking.question, asking.timeout, asking.kind)
    except UsageError as error:
        return _AnswerOfSSH(asking.question.host, {}, False, None, error=error)


@one_look.kept
def _texts(file: str | None) -> tuple[tuple[str, str], ...]:
    """Return path and text of the files that ssh reads."""
    arguments = file_arguments(file)
    files = read_files(arguments[1] if arguments else None)
    return tuple((found, text_of(found)) for found in dict.fromkeys(files) if version_of(found))


def _answer(question: Question, timeout: float, kind: HostKind | None = None) -> _AnswerOfSSH:
    defaults = _defaults()  # first: ssh may be at work on the answer
    begun = _begun.pop((get_ident(), question), None) or _begin(question)
    output, log = _run(_arguments(question), timeout, begun.process)
    printed = _parsed(output)
    values = {
        keyword: found
        for keyword, found in printed.items()
        if keyword != "controlpath"  # ours, and with the tokens of one host
        and (keyword in _ALWAYS_KEPT or defaults.get(keyword) != found)
    }
    lines = [line.rstrip("\r") for line in os.fsdecode(log).split("\n")]
    # A name that only `generated_config` knows is one of an inventory, or was.
    is_alias = len(_applied(lines)) > _is_own(_OWN_PROXY, _proxy_command(values))
    files = [line.removeprefix(READING) for line in lines if line.startswith(READING)]
    is_canonical = values.get("canonicalizehostname", ("no",))[0] in ("false", "no")
    versions = _versions(question, files, begun.before) if is_canonical else None
    is_shared = kind is not None and kind.is_proven(question.host, lines, printed)
    return _AnswerOfSSH(question.host, _without_own_block(values), is_alias, versions, is_shared)


def _versions(
    question: Question, files: list[str], before: Mapping[str, Version]
) -> Mapping[str, Version] | None:
    """Return the versions of the files that decide; None: more decides, or one has changed.

    :param files: those that ssh has read.
    :param before: files with their versions before ssh read them.
    """
    # ssh cuts long paths, and writes other characters than ASCII in its own way.
    if not all(version_of(file) and decides(text_of(file)) for file in files):
        return None
    # A new file in the folder of a pattern would be included.
    folders = {os.path.dirname(found) for file in files for found in include_patterns(file)}  # noqa: PTH120  # no Path for each host
    versions = versions_of((*files, *files_of(question.file), *folders))
    return versions if all(version_of(file) == seen for file, seen in before.items()) else None


def _applied(lines: Iterable[str]) -> list[str]:
    """Return the patterns of the ``Host`` and ``Match`` lines that name this host, not all."""
    found, criteria = [], ""
    for line in lines:
        if APPLYING in line:
            found.append(line.rpartition(APPLYING)[2])
        elif line.startswith(_CHECKING):
            criteria = line.removeprefix(_CHECKING).rpartition("' host ")[0]
        elif line.startswith(_FOUND) and re.search(_OF_HOSTS, criteria):
            found.append(criteria)
    return [pattern for pattern in found if pattern != "*"]


def _without_own_block(values: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Drop a block that `generated_config` has written, and a ProxyCommand like it.

    They would start this program again.
    """
    command = _proxy_command(values)
    if not _is_own(_OWN_PROGRAM, command):
        return values
    own = _OWN_KEYWORDS if _is_own(_OWN_PROXY, command) else _OWN_PROXY_KEYWORDS
    return {keyword: found for keyword, found in values.items() if keyword not in own}


def _is_own(pattern: str, command: str) -> bool:
    return bool(command) and re.search(pattern, command) is not None


def _proxy_command(values: Mapping[str, tuple[str, ...]]) -> str:
    return values.get("proxycommand", ("",))[0]


def _without_own(
    values: dict[str, tuple[str, ...]], question: Question
) -> dict[str, tuple[str, ...]]:
    """Drop the values that ssh adds by itself: the name, port 22, the local user."""
    unset = {"hostname": question.host.lower(), "port": "22", "user": (local_user() or "").lower()}
    own = {"port": question.port and str(question.port), "user": question.user}
    return {
        keyword: found
        for keyword, found in values.items()
        if keyword not in unset
        or (found[0] != own.get(keyword) and found[0].lower() != unset[keyword])
    }


_BAD_NAME = "hostname contains invalid characters"  # ssh.c, main
_IN_FOREGROUND = "ForkAfterAuthentication=no"  # known to a release that says the following
_IN_BACKGROUND = b"Cannot fork into background without a command"  # ssh.c, main


def _run(
    arguments: list[str], timeout: float, process: subprocess.Popen[bytes] | None = None
) -> tuple[str, bytes]:
    """Return stdout and stderr of ``ssh -G``.

    :param process: the one that was started for it.
    :raises UsageError: it fails.
    """
    try:
        done = openssh.finished(process or _started(arguments), timeout)
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"ssh -G did not answer in {timeout:g} s: look at 'Match exec' in ~/.ssh/config"
        ) from error
    if done.returncode and _IN_BACKGROUND in done.stderr and _IN_FOREGROUND not in arguments:
        return _run(["-o", _IN_FOREGROUND, *arguments], timeout)
    if done.returncode:
        raise UsageError(_why_refused(done.stderr, arguments[-1]))
    return done.stdout.decode("utf-8", "replace"), done.stderr


def _started(arguments: list[str]) -> subprocess.Popen[bytes]:
    try:
        return openssh.start(["ssh", "-vv", "-G", *arguments])
    except OSError as error:
        raise UsageError(f"ssh cannot be run: {error.strerror}") from error


def _why_refused(stderr: bytes, host: str) -> str:
    lines = stderr.decode("utf-8", "replace").splitlines()
    own = ("debug", "OpenSSH_", "Pseudo-terminal")
    words = [printable(line) for line in lines if line and not line.startswith(own)]
    told = "; ".join(words).replace(str(joined_path()), str(user_file()))
    if re.search(openssh.CANNOT_START, told):
        return f"{openssh.OTHER_SSH}: {told}"
    if _BAD_NAME in told:
        return f"{printable(host)}: no name of a host: {told}"
    return f"ssh cannot use its configuration: {told or 'no reason given'}"


def _parsed(output: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in output.splitlines():
        keyword, _, value = line.partition(" ")
        found[keyword] = (*found.get(keyword, ()), value) if keyword in _LISTS else (value,)
    return found


_defaults_lock = RenewedLock()


def _defaults() -> Mapping[str, tuple[str, ...]]:
    with _defaults_lock.lock:  # many hosts need them at the same time
        return _asked_defaults()


@functools.cache
def _asked_defaults() -> Mapping[str, tuple[str, ...]]:
    question = Question("", file=NO_FILE, home=os.environ.get("HOME"), user_id=os.getuid())
    versions = versions_of(())
    known = kept_answers.load(question)
    if known is None or known.versions != versions:
        output, _ = _run(["-F", "none", "--", "ringtasks.invalid"], 10.0)
        known = KeptAnswer(_parsed(output), is_alias=False, versions=versions)
        kept_answers.keep(question, known)
    return known.values


def _arguments(question: Question) -> list[str]:
    arguments = [*file_arguments(question.file)]
    if question.user:
        arguments += ["-l", question.user]
    if question.port:
        arguments += ["-p", str(question.port)]
    return [*arguments, "--", question.host]
