"""Keys and agents below ``$HOME``, if that is not the home folder of the passwd entry.

In many containers of CI services ``HOME`` is a folder of the job, and the passwd entry names
``/root``.  A shell that writes ``~/.ssh/id_ed25519`` uses ``HOME``, ssh(1) looks in the passwd
entry's folder and does not find it.  ringtasks looks in ``HOME``, over both kinds of link: so ssh
is given these files by their whole paths.  Files that are not there are left to ssh.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ringtasks.inventory.host_settings import SSHConfig

from .evaluated_config import settings_of
from .option_values import path_value
from .settings_files import is_configured, passwd_home

__all__ = ["home_arguments"]

#: readconf.c, fill_default_options.
_USUAL_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_KEYWORDS = ("IdentityFile", "CertificateFile", "IdentityAgent")


def home_arguments(config: SSHConfig) -> tuple[str, ...]:
    """Return the arguments that name the files below ``$HOME`` to an ``ssh``.

    :raises UsageError: ssh cannot use its configuration.
    """
    home = os.environ.get("HOME", "")
    if not home or home == passwd_home():
        return ()
    return tuple(
        word
        for keyword, path in _files(config, Path(home))
        for word in ("-o", f"{keyword}={path_value(path)}")
    )


def _files(config: SSHConfig, home: Path) -> Iterator[tuple[str, Path]]:
    settings = settings_of(config) if is_configured(config.ssh_config_file) else None
    values = settings.values if settings is not None else {}
    for keyword in _KEYWORDS:
        for value in values.get(keyword.lower(), ()):
            path = _below(home, value)
            if path is not None and path.exists():
                yield keyword, path
    if "identityfile" not in values and not config.key_path:
        for name in _USUAL_KEYS:
            if (home / ".ssh" / name).is_file():
                yield "IdentityFile", home / ".ssh" / name


def _below(home: Path, value: str) -> Path | None:
    """Return the path of a file that is named relative to the home folder."""
    for start in ("~/", "%d/"):  # ssh_config(5), TOKENS
        if value.startswith(start):
            return home / value.removeprefix(start)
    return None
