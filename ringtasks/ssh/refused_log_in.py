"""The text about a refused log-in: its reason, and the next thing to try."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.common.local_user import expanded_home
from ringtasks.common.program_name import as_typed
from ringtasks.errors import TOO_MANY_KEYS, AuthenticationError
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE, SSHConfig, expand

if TYPE_CHECKING:
    from .key_files import KeyProblem

__all__ = ["KEYS_ARE_OFF", "TOO_MANY", "explain"]

#: sshd's message to a client that has tried too often (its auth.c, auth_maxtries_exceeded).
TOO_MANY = "Too many authentication failures"
KEYS_ARE_OFF = "PubkeyAuthentication or PreferredAuthentications in ~/.ssh/config turns keys off"
#: The methods with questions that a person answers (RFC 4252 section 8, RFC 4256).
_ASKING = {"keyboard-interactive", "password"}
_NO_KEYS_THERE = "allow publickey on the host (sshd_config: PubkeyAuthentication), or try 'ssh -v'"


def explain(
    error: AuthenticationError, config: SSHConfig, methods: Collection[str], said: str = ""
) -> None:
    """Complete the error's evidence and advice.

    :param methods: as the server named them last; empty: it named none.
    :param said: all that ssh printed, if ``error.evidence`` is a part of it.
    """
    problem = _key_problem(config)
    if problem is not None:  # ssh itself goes on without the key
        error.evidence += f"; the key file {problem.what}"
        error.advice = problem.fix
    elif TOO_MANY in error.evidence:
        error.advice = TOO_MANY_KEYS
    elif TOO_MANY in said:
        error.evidence = f"{TOO_MANY}: {error.evidence}"
        error.advice = TOO_MANY_KEYS
    elif methods and "publickey" not in methods:
        error.evidence += f"; it needs {_need(methods)}"
        error.advice = _by_a_person(config) if _ASKING & set(methods) else _NO_KEYS_THERE
    elif KEYS_ARE_OFF not in error.evidence and _are_keys_off(config):
        error.evidence += f"; {KEYS_ARE_OFF}"
    elif os.environ.get(PRIVATE_KEY_VARIABLE) == "" and not config.key_path:
        error.evidence += f"; {PRIVATE_KEY_VARIABLE} is set but empty"
        error.advice = (
            f"set {PRIVATE_KEY_VARIABLE} to the text of the key: is the secret named rightly?"
        )


def _key_problem(config: SSHConfig) -> KeyProblem | None:
    """Return the fault of the host's key file, or of a private key that ssh's files name."""
    from .evaluated_config import settings_of, tokens_of
    from .key_files import PUBLIC, KeyProblem, why_refused
    from .option_values import expand_path

    if config.key_path:
        return why_refused(expanded_home(expand(config.key_path)))
    settings = settings_of(config)
    if settings is None:
        return None
    agent = settings.get("identityagent") or os.environ.get("SSH_AUTH_SOCK", "none")
    tokens = tokens_of(config, settings)
    for name in settings.values.get("identityfile", ()):
        path = Path(expand_path(name, tokens, "IdentityFile"))
        found = why_refused(path) if path.exists() else None  # ssh leaves a missing one out
        if found is not None and not (found.what == PUBLIC and agent != "none"):
            return KeyProblem(f"{name} {found.what}", found.fix)
    return None


def _are_keys_off(config: SSHConfig) -> bool:
    from .evaluated_config import settings_of

    settings = settings_of(config)
    if settings is None:
        return False
    methods = settings.get("preferredauthentications") or "publickey"
    is_off = settings.get("pubkeyauthentication") in ("no", "false")
    return is_off or "publickey" not in methods.split(",")


def _need(methods: Collection[str]) -> str:
    if "keyboard-interactive" in methods:
        return "keyboard-interactive (2FA)"
    return "a password" if "password" in methods else " or ".join(sorted(methods))


def _by_a_person(config: SSHConfig) -> str:
    if not config.batch_mode:
        return "try again, and answer its questions at the terminal"
    if not config.use_control_master:
        return f"set use_control_master, then log in once with '{as_typed('shell')}'"
    return f"log in once with '{as_typed('shell')}': other commands then use its connection"
