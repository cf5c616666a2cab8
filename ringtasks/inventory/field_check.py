"""Check the fields of a hosts file; an error names the file, line, host and field.

Any key of a host that is no setting is a fact.  A fact that was probably meant as a setting,
misspelled or by another tool's name, gives a warning.  A name that only another tool uses
(``port``) may be a fact on purpose, so it is not warned of if the host has the setting, too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ringtasks.common.setting_checks import UnexpectedValueError
from ringtasks.common.settings import check_value
from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError

from .model import SETTINGS
from .yaml_lines import LinedMapping

__all__ = ["checked_field", "checked_values", "setting_lines", "warnings_of"]


def checked_field(key: str, value: Any, origin: Any, file: str, host: str) -> Any:
    """Return a setting's value for the program.

    :param origin: the mapping of the hosts file in which it stands.
    :raises InventoryError: it is not of the expected kind.
    """
    written = origin.texts.get(key, ())
    # A list or a mapping has no hash.
    check = _checked if isinstance(value, (str, int, float)) else _checked.__wrapped__
    try:
        return check(key, value, written)
    except UnexpectedValueError as error:
        problem = error.problem + _quotes_hint(key, value, written)
        line = origin.lines.get(key)
        raise InventoryError(problem, file=file, line=line, host=host, field_name=key) from error


def checked_values(given: LinedMapping, file: str, host: str) -> dict[str, Any]:
    """Return the values that a mapping of a hosts file gives: the settings for the program."""
    return {
        key: checked_field(key, value, given, file, host) if key in SETTINGS else value
        for key, value in given.items()
        if value is not None
    }


@functools.lru_cache(1024)  # the hosts of a file share most values; 1 and true differ as written
def _checked(key: str, value: Any, written: tuple[str, ...]) -> Any:
    return check_value(SETTINGS[key], key, value, written)


def setting_lines(given: Any) -> dict[str, int]:
    """Return the lines of the settings in a mapping of a hosts file; anything else has none."""
    if not isinstance(given, LinedMapping):
        return {}
    return {key: line for key, line in given.lines.items() if key in SETTINGS}


def _quotes_hint(key: str, value: Any, written: tuple[str, ...]) -> str:
    """Return the advice for text that YAML reads as something else, such as ``no``."""
    if isinstance(value, str) or len(written) != 1:
        return ""
    try:
        check_value(SETTINGS[key], key, written[0])
    except UnexpectedValueError:
        return ""
    is_secret = SETTINGS[key].metadata["is_secret"]
    return ": put it in quotes" if is_secret else f": put it in quotes: {written[0]!r}"


#: Similarity from which a fact's name counts as a mistyped setting (0 to 1).
_MISTYPED = 0.8
#: Names of ssh_config(5), Ansible, Fabric, Paramiko and ssh clients with windows, without ``_``,
#: ``-`` and capitals.
_FOREIGN = {
    "ssh_host": "host hostname ip ipaddress addr address publicip sshhostname ansiblehost "
    "ansiblesshhost",
    "ssh_port": "port ansibleport ansiblesshport",
    "ssh_user": "user username login remoteuser ansibleuser ansiblesshuser sshusername",
    "ssh_key": "key keyfile keypath keyfilename identity identityfile privatekey sshprivatekey "
    "privatekeyfile sshkeypath sshkeyfile ansiblesshprivatekeyfile ansibleprivatekeyfile",
    "proxy_jump": "jump jumphost jumpserver bastion gateway",
    "work_dir": "cwd dir directory folder workingdir workingdirectory remotedir remotepath",
    "venv_activate": "venv virtualenv venvpath",
    "tailscale_ip": "tailscale tailscalehost tailscaleaddress tailnetip",
    "cloudflare_tunnel": "cloudflare cloudflarehostname tunnel",
    "ssh_host_key": "hostkey fingerprint hostpublickey",
    "connect_timeout": "timeout",
    "is_ephemeral": "ephemeral",
}
#: A password: there is no setting for one.
_UNUSED = re.compile(r"pass(word|phrase|wd)$|_pass$", re.IGNORECASE)
_MEANT = {name: setting for setting, names in _FOREIGN.items() for name in names.split()}
#: ``ServerAliveInterval`` is ``server_alive_interval``.
_MEANT |= {name.replace("_", ""): name for name in SETTINGS}


def warnings_of(file: str, defaults: Any, hosts: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yield a warning for the first fact of each such name.

    :param hosts: the names of the hosts with their fields.
    """
    seen: set[str] = set()
    common = defaults if isinstance(defaults, LinedMapping) else LinedMapping()
    for host, mapping in [("", common), *hosts]:
        for key in mapping if isinstance(mapping, LinedMapping) else ():
            if not isinstance(key, str) or key in SETTINGS or key in seen:
                continue
            meant = _meant(key)
            place = f"{file}:{mapping.lines.get(key)}: {f'{host}: ' if host else ''}{key}"
            if meant is None:
                seen.add(key)
                if _UNUSED.search(key):
                    yield f"{place}: not used: log-ins are with keys (ssh_key)"
            elif meant not in mapping and meant not in common:
                seen.add(key)
                yield f"{place}: not a setting, kept as a fact; did you mean {meant}?"


def _meant(key: str) -> str | None:
    """Return the setting whose name a key was probably meant to be."""
    foreign = _MEANT.get(key.lower().replace("_", "").replace("-", ""))
    if foreign is not None:
        return foreign
    near = near_names(key, SETTINGS, similarity=_MISTYPED)
    return near[0] if near else None
