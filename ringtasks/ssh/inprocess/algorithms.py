"""The algorithms that ssh's files name, in the order they name them, for Paramiko's Transport."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any

import paramiko

from ringtasks.errors import UsageError
from ringtasks.ssh.host_keys import signature_algorithms

__all__ = ["apply", "is_accepted", "may_sign"]

#: ssh_config(5) -> ``paramiko.transport.SecurityOptions``.
_LISTS = {
    "ciphers": "ciphers",
    "macs": "digests",
    "kexalgorithms": "kex",
    "hostkeyalgorithms": "key_types",
}
#: Those that Paramiko would accept, and OpenSSH only if its files name them.
_WEAK = r"-cbc\Z|md5|-96\Z"


def apply(
    transport: paramiko.Transport,
    ssh_config: Mapping[str, Any],
    host: str,
    pinned_types: Collection[str] = (),
) -> None:
    """Limit the algorithms to those that ssh's files name, else to strong ones.

    :param pinned_types: the types of the pinned keys, which are asked for first.
    :raises UsageError: Paramiko has none of them.
    """
    options = transport.get_security_options()
    for keyword, attribute in _LISTS.items():
        if keyword in ssh_config:
            named, known = ssh_config[keyword].split(","), list(getattr(options, attribute))
            chosen = [name for name in named if name in known]
            if keyword == "hostkeyalgorithms":
                chosen.sort(key=lambda name: name not in pinned_types)
            if not chosen:
                raise UsageError(
                    f"{host}: ssh_config: {keyword} {ssh_config[keyword]}: this connection is made "
                    "in process, which has none of them: set use_control_master, or allow one of "
                    + ", ".join(known)
                )
        else:
            chosen = _strong(tuple(getattr(options, attribute)))
        setattr(options, attribute, chosen)
    accepted = ssh_config.get("pubkeyacceptedalgorithms")
    if accepted is not None:
        names = accepted.split(",")
        refused = [name for name in transport.preferred_pubkeys if name not in names]
        disabled = dict(transport.disabled_algorithms or {})
        transport.disabled_algorithms = {**disabled, "pubkeys": refused}


@functools.lru_cache(maxsize=16)  # the same four lists for each log-in
def _strong(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not re.search(_WEAK, name)]


def is_accepted(key_type: str, ssh_config: Mapping[str, Any]) -> bool:
    """Return True if keys of this type may be offered (ssh_config(5), PubkeyAcceptedAlgorithms)."""
    return _is_listed(key_type, ssh_config.get("pubkeyacceptedalgorithms"))


def may_sign(key_type: str, ssh_config: Mapping[str, Any]) -> bool:
    """Return True if an authority with such a key may certify (CASignatureAlgorithms)."""
    return _is_listed(key_type, ssh_config.get("casignaturealgorithms"))


def _is_listed(key_type: str, accepted: str | None) -> bool:
    if accepted is None:
        return True
    return any(name in accepted.split(",") for name in signature_algorithms(key_type))
