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

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig

from . import kept_answers, openssh
from .kept_answers import KeptAnswer, Question
from .settings_files import (
    NO_FILE,
    SYSTEM_FILE,
    absolute,
    files_of,
    is_configured,
    local_user,
    text_of,
    version_of,
    versions_of,
)

if TYPE_CHECKING:
    from .option_values import Tokens

__all__ = [
    "NO_SETTINGS",
    "HostSettings",
    "ask",
    "begun",
    "settings_of",
    "shell_of",
    "tokens_of",
    "watched_files",
    "with_keepalive",
]

_DEFAULTS = SSHConfig("")


class HostSettings(NamedTuple):
    """The configuration of a host: keyword in lower case -> its values, in their order.

    :ivar is_alias: a ``Host`` or ``Match`` line that is not for all hosts names it.
    :ivar question: what ssh was asked; None: it was not.
    """

    values: Mapping[str, tuple[str, ...]]
    is_alias: bool
    question: Question | None = None

    def get(self, keyword: str, default: str | None = None) -> str | None:
        """Return the first value of ``keyword``."""
        return self.values.get(keyword, (default,))[0]

    def firsts(self) -> dict[str, str]:
        """Return the first value of each keyword."""
        return {keyword: values[0] for keyword, values in self.values.items()}

    def tokens(self, values: Mapping[str, str]) -> Tokens:
        """Return ``values`` and the tokens that ssh computes (ssh_config(5), TOKENS)."""
        from .option_values import Tokens

        def of_ssh(name: str) -> str | None:
            from .config_query import token_of_ssh

            return self.question and token_of_ssh(self.question, name)

        return Tokens(values, of_ssh)


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
    known = _checked.pop(question, None) or _known(question)
    if known is None:
        from .config_query import answer_of_ssh

        known = answer_of_ssh(question, timeout)
        if known.versions is not None:
            kept_answers.keep(question, known)
    if known.versions is not None:
        _kept[question] = known
    return HostSettings(known.values, known.is_alias, question)


def _known(question: Question) -> KeptAnswer | None:
    """Return a kept answer that still holds; None: there is none."""
    known = _kept.get(question) or kept_answers.load(question)
    if known and known.versions and known.versions == versions_of(tuple(known.versions)):
        return known
    return None


@contextlib.contextmanager
def begun(config: SSHConfig) -> Iterator[None]:
    """Look for a kept answer about a host; if there is none, let ssh work on it in the block.

    `settings_of`, in the block, returns it.
    """
    question = _question(*_asked_of(config))
    known = _known(question)
    if known is None:
        from .config_query import begin, end

        begin(question)
    else:
        _checked[question] = known
    try:
        yield
    finally:
        _checked.pop(question, None)
        if known is None:
            end(question)


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
        return versions_of((*files_of(file), str(folder), *map(str, folder.glob("*.conf"))))
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
    from .option_values import expand

    values = tokens_of(config, settings)
    return expand(command, values, "RemoteCommand"), wish in ("yes", "true", "force")


def tokens_of(config: SSHConfig, settings: HostSettings) -> Tokens:
    """Return the tokens of a host's settings (ssh_config(5), TOKENS)."""
    from .option_values import token_values  # few settings have tokens

    values = token_values(
        name=config.name_in_ssh_config,
        address=settings.get("hostname") or config.host,
        port=settings.get("port") or config.port,
        user=config.user or settings.get("user") or local_user() or "",
        local_user=local_user() or "",
        alias=settings.get("hostkeyalias") or "",
    )
    return settings.tokens(values)


_kept: dict[Question, KeptAnswer] = {}
#: Those that `begun` has just looked at.
_checked: dict[Question, KeptAnswer] = {}


def _question(host: str, user: str | None, port: int | None, file: str | None) -> Question:
    file = file if file in (None, NO_FILE) else absolute(file)
    return Question(host, user, port, file, os.environ.get("HOME"), os.getuid())


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
