"""Keys and agents that ssh(1) would look for in another folder than ringtasks.

Below ``$HOME``: in many containers of CI services ``HOME`` is a folder of the job, and the passwd
entry names ``/root``.  A shell that writes ``~/.ssh/id_ed25519`` uses ``HOME``, ssh looks in the
passwd entry's folder and does not find it.  ringtasks looks in ``HOME``, over both kinds of link.

Relative to the current folder: a control master is started in ``/``.

So ssh is given these files by their whole paths.  Files that are not there are left to ssh.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ringtasks.inventory.host_settings import SSHConfig

from .evaluated_config import HostSettings, settings_of, tokens_of
from .key_files import is_known
from .option_values import Tokens, expand_path, path_value, quoted
from .settings_files import passwd_home

__all__ = ["USUAL_KEYS", "home_arguments"]

#: readconf.c, fill_default_options.
USUAL_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_KEYWORDS = ("IdentityFile", "CertificateFile", "IdentityAgent", "ForwardAgent")
_NO_PATHS = ("none", "SSH_AUTH_SOCK", "yes", "no")
#: The name of a variable that holds the path (ssh_config(5), IdentityAgent).
_VARIABLE = r"\$\w"
#: ssh_config(5), TOKENS.
_AT_HOME = ("~/", "%d/")


def home_arguments(config: SSHConfig) -> tuple[str, ...]:
    """Return the arguments that name the files to an ``ssh``.

    :raises UsageError: ssh cannot use its configuration.
    """
    home = os.environ.get("HOME", "")
    own_home = Path(home) if home and home != passwd_home() else None
    settings = settings_of(config)
    named = [*_configured(settings, tokens_of(config, settings), own_home)]
    if own_home is not None and not config.key_path and "identityfile" not in settings.values:
        usual = (own_home / ".ssh" / name for name in USUAL_KEYS)
        named += [("IdentityFile", path_value(path)) for path in usual if path.is_file()]
    return tuple(word for key, value in named for word in ("-o", f"{key}={quoted(value)}"))


def _configured(
    settings: HostSettings, tokens: Tokens, own_home: Path | None
) -> Iterator[tuple[str, str]]:
    """Yield the values of ssh's files that name such a file, with those beside it, in order."""
    for keyword in _KEYWORDS:
        values = settings.values.get(keyword.lower(), ())
        places = [_place(value, keyword, tokens, own_home) for value in values]
        if any(places):
            yield from (
                (keyword, place or value) for value, place in zip(values, places, strict=True)
            )


def _place(value: str, keyword: str, tokens: Tokens, own_home: Path | None) -> str | None:
    """Return the whole path of a file that ssh would look for elsewhere; None: it would not."""
    if value in _NO_PATHS or re.match(_VARIABLE, value):
        return None
    path = Path(expand_path(value, tokens, keyword))
    is_below_own = own_home is not None and value.startswith(_AT_HOME)
    if path.is_absolute() and not is_below_own:
        return None
    return path_value(path.absolute()) if is_known(path) else None
