"""OpenSSH's own configuration of a host: ``ssh -G`` (ssh(1), ssh_config(5)).

OpenSSH alone implements ``Include``, ``Match``, ``CanonicalizeHostname`` and the order of its
files.  An answer holds the configured values: a value equal to that of ``ssh -F none -G`` counts as
unset.  Answers are kept, also for later processes, until a file that was read, or may be read, has
changed; they are not kept if ``Match exec`` or canonicalization decide.

OpenSSH finds its files by the passwd entry, this package by ``$HOME``, which differ in many
containers.  If they differ, ssh gets a file (``-F``) that includes those of ``$HOME`` and of the
system.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ringtasks.common import one_look
from ringtasks.common.fork import RenewedLock
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.text import printable
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig

from . import kept_answers, openssh
from .kept_answers import KeptAnswer
from .option_values import Tokens, expand, token_values
from .settings_files import (
    NO_FILE,
    SYSTEM_FILE,
    Version,
    absolute,
    files_of,
    include_patterns,
    is_configured,
    joined_file,
    joined_path,
    local_user,
    passwd_home,
    text_of,
    user_file,
    version_of,
)

__all__ = [
    "NO_SETTINGS",
    "HostSettings",
    "ask",
    "file_arguments",
    "settings_of",
    "shell_of",
    "tokens_of",
    "watched_files",
    "with_keepalive",
]

#: Keywords that take one more value with each line.
_LISTS = frozenset({"identityfile", "certificatefile", "sendenv", "setenv", "localforward",
                    "remoteforward", "dynamicforward"})  # fmt: skip
#: Values that ``ssh -F none -G`` cannot tell from configured ones, since it names the host itself.
_ALWAYS_KEPT = frozenset({"hostname", "user", "port"})
_DEFAULTS = SSHConfig("")
#: Keywords in whose values ``ssh -G`` replaces variables, or may.
_WITH_VARIABLES = ("include", "forwardagent", "identityagent", "controlpath", "userknownhostsfile",
                   "localforward", "remoteforward")  # fmt: skip
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
_READING, _APPLYING = "debug1: Reading configuration data ", ": Applying options for "
_CHECKING, _FOUND = "debug2: checking match for '", "debug2: match found"


class HostSettings(NamedTuple):
    """The configuration of a host: keyword in lower case -> its values, in their order.

    :ivar is_alias: a ``Host`` or ``Match`` line that is not for all hosts names it.
    :ivar question: what ssh was asked; None: it was not.
    """

    values: Mapping[str, tuple[str, ...]]
    is_alias: bool
    question: _Question | None = None

    def get(self, keyword: str, default: str | None = None) -> str | None:
        """Return the first value of ``keyword``."""
        return self.values.get(keyword, (default,))[0]

    def firsts(self) -> dict[str, str]:
        """Return the first value of each keyword."""
        return {keyword: values[0] for keyword, values in self.values.items()}

    def tokens(self, values: Mapping[str, str]) -> Tokens:
        """Return ``values`` and the tokens that ssh computes (ssh_config(5), TOKENS)."""
        question = self.question
        return Tokens(values, lambda name: question and _token_of_ssh(question, name))


def ask(
    host: str,
    *,
    user: str | None = None,
    port: int | None = None,
    file: str | None = None,
    timeout: float = 10.0,
) -> HostSettings | None:
    """Ask OpenSSH for the configuration of ``host``; None if it cannot be used here.

    :param user: the explicitly requested user: ``Match user`` depends on it.
    :param file: use this file instead of the user's and the system's (`SSHConfig.ssh_config_file`).
    :param timeout: seconds for the whole answer; ``Match exec`` may run programs.
    :raises UsageError: ssh cannot use its files; the message has its own words.
    """
    if host.startswith("-") or not host:
        raise UsageError(f"{host!r} is not a host name")
    if not openssh.is_usable():
        return None
    if not is_configured(file):
        return HostSettings(_usual_values(file), is_alias=False)
    question = _question(host, user, port, file)
    known = _kept.get(question) or kept_answers.load(question)
    if known is not None and known.versions == _versions(tuple(known.versions)):
        _kept[question] = known
        return HostSettings(known.values, known.is_alias, question)
    return _asked(question, timeout)


#: Those of a host without any, and of all hosts if there is no ``ssh``.
NO_SETTINGS = HostSettings({}, is_alias=False)


def settings_of(config: SSHConfig) -> HostSettings:
    """Return the settings of a host in ssh's files; none if there is no ``ssh``.

    :raises UsageError: ssh cannot use its files.
    """
    host, user, port, file = _asked_of(config)
    found = ask(host, user=user, port=port, file=file, timeout=config.connect_timeout)
    return found or NO_SETTINGS


def watched_files(config: SSHConfig) -> Mapping[str, object] | None:
    """Return the files that the answer of `settings_of` depends on, with their versions then.

    None: it depends on more than files, or was not asked for.
    """
    file = config.ssh_config_file
    if not is_configured(file):
        folder = Path("/etc/ssh/ssh_config.d")
        return _versions((*files_of(file), str(folder), *map(str, folder.glob("*.conf"))))
    known = _kept.get(_question(*_asked_of(config)))
    return known and known.versions


def _asked_of(config: SSHConfig) -> tuple[str, str | None, int | None, str | None]:
    port = None if config.port == DEFAULT_SSH_PORT else config.port
    return config.name_in_ssh_config, config.user, port, config.ssh_config_file


def with_keepalive(config: SSHConfig, settings: Mapping[str, Any]) -> SSHConfig:
    """Return the config with ServerAliveInterval and ServerAliveCountMax, if it has the defaults.

    :param settings: keyword in lower case to value.
    """
    changes: dict[str, Any] = {}
    for name, kind in (("server_alive_interval", float), ("server_alive_count_max", int)):
        found = settings.get(name.replace("_", ""))
        if found is not None and getattr(config, name) == getattr(_DEFAULTS, name):
            changes[name] = kind(found)
    return replace(config, **changes) if changes else config


def shell_of(config: SSHConfig) -> tuple[str | None, bool]:
    """Return RemoteCommand (None: the login shell), and whether RequestTTY wants a terminal."""
    settings = settings_of(config)
    command = settings.get("remotecommand", "none")
    wish = settings.get("requesttty")
    if not command or command == "none":
        return None, wish not in ("no", "false")
    values = tokens_of(config, settings)
    return expand(command, values, "RemoteCommand"), wish in ("yes", "true", "force")


def tokens_of(config: SSHConfig, settings: HostSettings) -> Tokens:
    """Return the tokens of a host's settings (ssh_config(5), TOKENS)."""
    values = token_values(
        name=config.name_in_ssh_config,
        address=settings.get("hostname") or config.host,
        port=settings.get("port") or config.port,
        user=config.user or settings.get("user") or local_user() or "",
        local_user=local_user() or "",
        alias=settings.get("hostkeyalias") or "",
    )
    return settings.tokens(values)


@one_look.kept
def file_arguments(file: str | None = None) -> tuple[str, ...]:
    """Return the arguments that make any ``ssh`` read the files of ``$HOME`` and of the system.

    :param file: the file to read instead.
    """
    if file is not None:
        return ("-F", file if file == NO_FILE else absolute(file))
    if not is_configured():
        return ()
    home = os.environ.get("HOME", "")
    if not home or home == passwd_home():
        return ()
    return ("-F", str(joined_file(home)))


class _Question(NamedTuple):
    host: str
    user: str | None
    port: int | None
    file: str | None
    home: str | None
    user_id: int


def _question(host: str, user: str | None, port: int | None, file: str | None) -> _Question:
    file = file if file in (None, NO_FILE) else absolute(file)
    return _Question(host, user, port, file, os.environ.get("HOME"), os.getuid())


_kept: dict[_Question, KeptAnswer] = {}
_defaults_lock = RenewedLock()


def _token_of_ssh(question: _Question, name: str) -> str | None:
    """Return the value of a token; None: ssh does not have it.

    Its answer has the tokens of ControlPath replaced, and those of no other value.
    """
    try:
        output, _ = _run(["-o", f"ControlPath=/%{name}", *_arguments(question)], 10.0)
    except UsageError:
        return None
    return _parsed(output)["controlpath"][0].removeprefix("/")


def _arguments(question: _Question) -> list[str]:
    arguments = [*file_arguments(question.file)]
    if question.user:
        arguments += ["-l", question.user]
    if question.port:
        arguments += ["-p", str(question.port)]
    return [*arguments, "--", question.host]


def _asked(question: _Question, timeout: float) -> HostSettings:
    output, log = _run(_arguments(question), timeout)
    defaults = _defaults()
    values = {
        keyword: found
        for keyword, found in _parsed(output).items()
        if keyword in _ALWAYS_KEPT or defaults.get(keyword) != found
    }
    lines = [line.rstrip("\r") for line in os.fsdecode(log).split("\n")]
    # A name that only `generated_config` knows is one of an inventory, or was.
    is_alias = len(_applied(lines)) > _is_own(_OWN_PROXY, _proxy_command(values))
    answer = HostSettings(_without_own(_without_own_block(values), question), is_alias, question)
    files = [line.removeprefix(_READING) for line in lines if line.startswith(_READING)]
    is_canonical = answer.get("canonicalizehostname") in (None, "false", "no")
    if is_canonical and all(_decides(text_of(file)) for file in files):
        # A new file in the folder of a pattern would be included.
        folders = {os.path.dirname(found) for file in files for found in include_patterns(file)}  # noqa: PTH120  # no Path for each host
        watched = {*files, *files_of(question.file), *folders}
        kept = KeptAnswer(answer.values, answer.is_alias, _versions(tuple(watched)))
        _kept[question] = kept
        kept_answers.keep(question, kept)
    return answer


def _applied(lines: Iterable[str]) -> list[str]:
    """Return the patterns of the ``Host`` and ``Match`` lines that name this host, not all."""
    found, criteria = [], ""
    for line in lines:
        if _APPLYING in line:
            found.append(line.rpartition(_APPLYING)[2])
        elif line.startswith(_CHECKING):
            criteria = line.removeprefix(_CHECKING).rpartition("' host ")[0]
        elif line.startswith(_FOUND) and re.search(_OF_HOSTS, criteria):
            found.append(criteria)
    return [pattern for pattern in found if pattern != "*"]


@functools.lru_cache(maxsize=64)
def _decides(text: str) -> bool:
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
    values: dict[str, tuple[str, ...]], question: _Question
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


def _run(arguments: list[str], timeout: float) -> tuple[str, bytes]:
    """Return stdout and stderr of ``ssh -G``.

    :raises UsageError: it fails.
    """
    try:
        done = openssh.run(["ssh", "-vv", "-G", *arguments], timeout)
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"ssh -G did not answer in {timeout:g} s: look at 'Match exec' in ~/.ssh/config"
        ) from error
    except OSError as error:
        raise UsageError(f"ssh cannot be run: {error.strerror}") from error
    if done.returncode and _IN_BACKGROUND in done.stderr and _IN_FOREGROUND not in arguments:
        return _run(["-o", _IN_FOREGROUND, *arguments], timeout)
    if done.returncode:
        raise UsageError(_why_refused(done.stderr, arguments[-1]))
    return done.stdout.decode("utf-8", "replace"), done.stderr


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


def _defaults() -> Mapping[str, tuple[str, ...]]:
    with _defaults_lock.lock:  # many hosts need them at the same time
        return _asked_defaults()


@functools.cache
def _asked_defaults() -> Mapping[str, tuple[str, ...]]:
    question = _question("", None, None, NO_FILE)
    versions = _versions(())
    known = kept_answers.load(question)
    if known is None or known.versions != versions:
        output, _ = _run(["-F", "none", "--", "ringtasks.invalid"], 10.0)
        known = KeptAnswer(_parsed(output), is_alias=False, versions=versions)
        kept_answers.keep(question, known)
    return known.values


def _usual_values(file: str | None) -> dict[str, tuple[str, ...]]:
    """Return the values of a system file that changes nothing but the environment."""
    if file == NO_FILE:
        return {}
    patterns = _usual_send_env(version_of(str(SYSTEM_FILE)))
    return {"sendenv": patterns} if patterns else {}


@functools.lru_cache(maxsize=4)
def _usual_send_env(_version: object) -> tuple[str, ...]:
    lines = text_of(str(SYSTEM_FILE)).lower().splitlines()
    return ("LANG", "LC_*") if any(line.split()[:1] == ["sendenv"] for line in lines) else ()


@one_look.kept
def _versions(files: tuple[str, ...]) -> Mapping[str, Version]:
    """Return the version of each file, and of the ``ssh`` that reads them."""
    program = openssh.program() or "ssh"
    return {file: version_of(file) for file in (program, *files)}
