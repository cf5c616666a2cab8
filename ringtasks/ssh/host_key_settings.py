"""The settings of ssh_config(5) that say which host keys are known.

Most users have none; then OpenSSH is not asked, and the code that asks is not loaded.  Whatever
they say, a pin of ringtasks is never weakened: ``StrictHostKeyChecking no`` accepts no other key
than the pinned one.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig

from .settings_files import is_configured, local_user, mentions

__all__ = ["HostKeySettings", "host_key_settings"]

_KEYWORDS = (
    "stricthostkeychecking", "userknownhostsfile", "globalknownhostsfile", "hostkeyalias",
    "knownhostscommand",
)  # fmt: skip
_COMMAND_TIMEOUT = 10.0  # seconds
#: One log-in asks several times. A process that lives for days has to notice a new or revoked key.
_KEPT_SECONDS = 1.0


class HostKeySettings(NamedTuple):
    """The settings of one host.

    :ivar is_strict: a host without a known key is refused (StrictHostKeyChecking).
    :ivar files: in place of the usual UserKnownHostsFile and GlobalKnownHostsFile; None: those.
    :ivar alias: the name to look up in them (HostKeyAlias).
    :ivar command: the program that prints further lines (KnownHostsCommand).
    """

    is_strict: bool = False
    files: tuple[str, ...] | None = None
    alias: str | None = None
    command: str | None = None

    def printed(self, config: SSHConfig) -> bytes:
        """Return the lines that the program prints for a host.

        :raises UsageError: it fails, or needs a key that is not known before the log-in.
        """
        if self.command is None:
            return b""
        from .option_values import expand_variables

        name = self.alias or _usual_name(config)
        values = {**_values(config, self.alias or ""), "H": name, "I": "HOSTNAME"}
        # As in ssh, the words are those of the file: a value with a space stays one of them.
        words = tuple(
            expand_variables(word, values, "KnownHostsCommand")
            for word in shlex.split(self.command)
        )
        return _printed(words, config.id, int(time.monotonic() / _KEPT_SECONDS))


def host_key_settings(config: SSHConfig) -> HostKeySettings:
    """Return the settings of a host.

    :raises UsageError: ssh cannot use its files.
    """
    file = config.ssh_config_file
    if not is_configured(file) or not mentions(_KEYWORDS, file):
        return _USUAL
    from .evaluated_config import settings_of

    settings = settings_of(config)
    if settings is None:
        return _USUAL
    values = settings.values
    files = None
    if "userknownhostsfile" in values or "globalknownhostsfile" in values:
        named = [
            values.get("userknownhostsfile", ("~/.ssh/known_hosts ~/.ssh/known_hosts2",))[0],
            values.get(
                "globalknownhostsfile", ("/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",)
            )[0],
        ]
        tokens = _values(config, settings.get("hostkeyalias") or "")
        files = tuple(path for line in named for path in _paths(line, tokens))
    command = settings.get("knownhostscommand", "none")
    return HostKeySettings(
        settings.get("stricthostkeychecking") in ("yes", "true"),
        files,
        settings.get("hostkeyalias"),
        None if command == "none" else command,
    )


_USUAL = HostKeySettings()


def _paths(line: str, tokens: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths of a line that ``ssh -G`` has printed, without the quotes around each.

    So words that are together the name of a file are one path.
    """
    from .option_values import expand_path

    words = line.split(" ")
    while words:
        for count in range(len(words), 0, -1):
            path = expand_path(" ".join(words[:count]), tokens, "UserKnownHostsFile")
            if count == 1 or os.path.exists(path):  # noqa: PTH110  # Path.exists may raise
                break
        if path != "none":
            yield path
        del words[:count]


def _values(config: SSHConfig, alias: str) -> dict[str, str]:
    from .option_values import token_values

    host, name = config.host or config.id, config.name_in_ssh_config
    user = config.user or local_user() or ""
    return token_values(name=name, address=host, port=config.port, user=user, alias=alias)


def _usual_name(config: SSHConfig) -> str:
    host = config.host or config.id
    return host if config.port == DEFAULT_SSH_PORT else f"[{host}]:{config.port}"


@functools.lru_cache(maxsize=64)
def _printed(command: tuple[str, ...], host: str, _period: int) -> bytes:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UsageError(f"{host}: ssh_config: KnownHostsCommand failed: {error}") from error
    return done.stdout
