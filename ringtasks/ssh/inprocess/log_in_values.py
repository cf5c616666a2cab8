"""The arguments of ``SSHClient.connect`` that decide the log-in, as one `InProcessLogIn`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringtasks.ssh.keywords import methods_of_openssh
from ringtasks.ssh.patience import Patience

from .agent_forwarding import agent_socket
from .algorithms import is_accepted
from .identities import Identities
from .log_in import METHODS, InProcessLogIn

__all__ = ["with_log_in"]

#: The arguments that Paramiko would use itself, without an ``auth_strategy``.
_OF_LOG_IN = (
    "pkey", "key_filename", "passphrase", "password", "allow_agent", "look_for_keys",
)  # fmt: skip
#: ssh_config(5): the keyword that turns a method off.
_SWITCHES = {
    "publickey": "pubkeyauthentication",
    "keyboard-interactive": "kbdinteractiveauthentication",
    "password": "passwordauthentication",
}
_OFF = ("no", "false")


def with_log_in(
    connect_kwargs: Mapping[str, Any],
    user: str,
    ssh_config: Mapping[str, Any],
    patience: Patience,
    is_named_only: bool,
) -> dict[str, Any]:
    """Return the arguments with a `InProcessLogIn` in place of those for Paramiko's own log-in.

    A strategy of the caller's own stays.

    :param is_named_only: offer the named keys only, as ssh does with ``IdentitiesOnly``.
    """
    others = {name: value for name, value in connect_kwargs.items() if name not in _OF_LOG_IN}
    if others.get("auth_strategy") is not None:
        return others
    identities = _identities(connect_kwargs, ssh_config, is_named_only)
    password = connect_kwargs.get("password")
    others.setdefault("compress", ssh_config.get("compression") == "yes")
    methods = _methods(ssh_config)
    if "publickey" not in methods:
        from ringtasks.ssh.refused_log_in import KEYS_ARE_OFF  # with the reasons of refusals

        identities.faults.append(KEYS_ARE_OFF)
    log_in = InProcessLogIn(user, identities, patience, password, methods)
    log_in.tries = int(ssh_config.get("numberofpasswordprompts", log_in.tries))
    others["auth_strategy"] = log_in
    return others


def _identities(
    given: Mapping[str, Any], ssh_config: Mapping[str, Any], is_named_only: bool
) -> Identities:
    named = given.get("key_filename") or ()
    files = (named,) if isinstance(named, str) else tuple(named)
    configured = ssh_config.get("identityfile", ())
    has_usual_files = given.get("look_for_keys", True) and "identityfile" not in ssh_config
    socket = agent_socket(ssh_config)
    return Identities(
        key=given.get("pkey"),
        files=tuple(file for file in files if file not in configured),
        configured_files=tuple(file for file in files if file in configured),
        passphrase=given.get("passphrase") or given.get("password"),
        has_agent=given.get("allow_agent", True) and socket != "",
        has_usual_files=has_usual_files and not is_named_only,
        is_named_only=is_named_only or ssh_config.get("identitiesonly") == "yes",
        agent_socket=socket,
        certificates=tuple(ssh_config.get("certificatefile", ())),
        faults=[f"{name} works with OpenSSH only" for name in methods_of_openssh(ssh_config)],
        rsa_bits=int(ssh_config.get("requiredrsasize", 0)),
        adds_to_agent=ssh_config.get("addkeystoagent", "no"),
        is_accepted=lambda key_type: is_accepted(key_type, ssh_config),
    )


def _methods(ssh_config: Mapping[str, Any]) -> list[str]:
    preferred = ssh_config.get("preferredauthentications", ",".join(METHODS)).split(",")
    known = [name for name in preferred if name in METHODS]
    return [name for name in known if ssh_config.get(_SWITCHES[name]) not in _OFF]
