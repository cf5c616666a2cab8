"""The settings of ssh_config(5) that say which host keys are known.

Most users have none; then OpenSSH is not asked, and the code that asks is not loaded.  Whatever
they say, a pin of ringtasks is never weakened: ``StrictHostKeyChecking no`` accepts no other key
than the pinned one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig

from .host_keys import HostKey
from .openssh import run
from .settings_files import is_configured, mentions

__all__ = ["HostKeySettings", "host_key_settings", "settings_begun"]

_KEYWORDS = (
    "stricthostkeychecking", "userknownhostsfile", "globalknownhostsfile", "hostkeyalias",
    "knownhostscommand",
)  # fmt: skip
_OF_KEY = r"(?<!%)(%%)*%[tfK]"  # tokens (sshconnect.c, load_hostkeys_command)
_COMMAND_TIMEOUT = 10.0  # seconds
#: One log-in asks several times. A process that lives for days has to notice a new or revoked key.
_KEPT_SECONDS = 1.0


class HostKeySettings(NamedTuple):
    """The settings of one host.

    :ivar is_strict: a host without a known key is refused (StrictHostKeyChecking).
    :ivar files: in place of the usual UserKnownHostsFile and GlobalKnownHostsFile; None: those.
    :ivar alias: the name to look up in them (HostKeyAlias).
    :ivar command: the program that prints further lines (KnownHostsCommand).
    :ivar shown: the host's key, for the program; None: it has shown none yet.
    """

    is_strict: bool = False
    files: tuple[str, ...] | None = None
    alias: str | None = None
    command: str | None = None
    shown: HostKey | None = None

    @property
    def needs_key(self) -> bool:
        """True if the program is told the key that the host shows."""
        return bool(self.command and re.search(_OF_KEY, self.command))

    def usual_name(self, config: SSHConfig) -> str:
        """Return the name under which ssh looks the host up."""
        host = config.host or config.id
        return self.alias or (
            host if config.port == DEFAULT_SSH_PORT else f"[{host}]:{config.port}"
        )

    def printed(self, config: SSHConfig) -> bytes:
        """Return the lines that the program prints for a host.

        :raises UsageError: the program fails, or needs a token that ssh does not have.
        """
        if self.command is None:
            return b""
        from .evaluated_config import settings_of, tokens_of
        from .option_values import expand_variables

        values = tokens_of(config, settings_of(config))
        is_early = self.needs_key and self.shown is None
        values["H"], values["I"] = self.usual_name(config), "ORDER" if is_early else "HOSTNAME"
        values |= _tokens_of_key(self.shown)
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
    if not _needs_openssh(config):
        return _USUAL
    from .evaluated_config import settings_of, tokens_of

    settings = settings_of(config)
    values = settings.values
    files = None
    if "userknownhostsfile" in values or "globalknownhostsfile" in values:
        named = [
            values.get("userknownhostsfile", ("~/.ssh/known_hosts ~/.ssh/known_hosts2",))[0],
            values.get(
                "globalknownhostsfile", ("/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",)
            )[0],
        ]
        tokens = tokens_of(config, settings)
        files = tuple(path for line in named for path in _paths(line, tokens))
    command = settings.get("knownhostscommand", "none")
    return HostKeySettings(
        settings.get("stricthostkeychecking") in ("yes", "true"),
        files,
        settings.get("hostkeyalias"),
        None if command == "none" else command,
    )


def settings_begun(config: SSHConfig) -> contextlib.AbstractContextManager[None]:
    """Let OpenSSH work within the block on its answer, if `host_key_settings` will need it."""
    if not _needs_openssh(config):
        return contextlib.nullcontext()
    from .evaluated_config import begun

    return begun(config)


def _needs_openssh(config: SSHConfig) -> bool:
    file = config.ssh_config_file
    return is_configured(file) and mentions(_KEYWORDS, file)


_USUAL = HostKeySettings()


def _tokens_of_key(shown: HostKey | None) -> dict[str, str]:
    if shown is None:
        return dict.fromkeys("tfK", "NONE")
    return {"t": shown.type, "f": shown.fingerprint, "K": shown.blob}


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


@functools.lru_cache(maxsize=64)
def _printed(command: tuple[str, ...], host: str, _period: int) -> bytes:
    try:
        done = run(command, _COMMAND_TIMEOUT)
        done.check_returncode()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UsageError(f"{host}: ssh_config: KnownHostsCommand failed: {error}") from error
    return done.stdout
