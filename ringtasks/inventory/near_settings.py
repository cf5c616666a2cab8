"""Warn of facts that were probably meant as settings: misspelled, or by another tool's name.

Any key of a host that is no setting is a fact.  A name that only another tool uses (``port``) may
be a fact on purpose, so it is not warned of if the host has the setting, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ringtasks.common.text import near_names

from .model import SETTINGS
from .yaml_lines import LinedMapping

__all__ = ["warnings_of"]

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
