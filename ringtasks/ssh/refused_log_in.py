"""The text about a refused log-in: its reason, and the next thing to try."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ringtasks.common.local_user import expanded_home
from ringtasks.common.program_name import as_typed_for
from ringtasks.errors import ADVICE, TOO_MANY_KEYS, AuthenticationError, Reason
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE, SSHConfig, expand

from .evaluated_config import settings_of, tokens_of
from .home_files import USUAL_KEYS
from .key_files import (
    PUBLIC,
    KeyProblem,
    is_known,
    keys_in_agent,
    problem_of_certificate,
    why_refused,
)
from .keywords import methods_of_openssh
from .option_values import expand_path

__all__ = ["KEYS_ARE_OFF", "NO_KEY", "TOO_MANY", "explain"]

#: sshd's message to a client that has tried too often (its auth.c, auth_maxtries_exceeded).
TOO_MANY = "Too many authentication failures"
KEYS_ARE_OFF = "PubkeyAuthentication or PreferredAuthentications in ~/.ssh/config turns keys off"
NO_KEY = "there is no key: no usual one in ~/.ssh, none in an agent or as ssh_key"
#: It accepts one key, and asks for another one (sshd_config(5), AuthenticationMethods).
_WANTS_MORE = "the server accepted publickey, and wants more"
_PARTIAL = r'(?m)^Authenticated using "publickey" with partial success'
_ANOTHER_KEY = "it wants another key, too: name each by IdentityFile in ~/.ssh/config"
#: Older releases of ssh look for it, too.
_OLD_KEY = "id_dsa"
_ONE_TRY = (
    "it refused the only key that was offered, and allows few tries (sshd_config: MaxAuthTries): "
    f"{ADVICE[Reason.AUTHENTICATION]}"
)
_NAME_A_KEY = "name a key by IdentityFile; its .pub file will do if an agent has the key"
_UNREADABLE = "ssh cannot read this key: try 'ssh-keygen -y -f FILE'"
_MAKE_A_KEY = "set ssh_key, or make a key with ssh-keygen and put the public one on the host"
#: Lines of ssh about a key that it could not use (sshconnect2.c, ssh-pkcs11-client.c).
_OF_KEYS = r"(?m)^((?:Load key |sign_and_send_pubkey: |provider ).*?)\r?$"
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
    elif TOO_MANY in error.evidence or TOO_MANY in said:
        if TOO_MANY not in error.evidence:
            error.evidence = f"{TOO_MANY}: {error.evidence}"
        error.advice = _ONE_TRY if _has_one_key(config) else TOO_MANY_KEYS
    elif methods and "publickey" not in methods:
        error.evidence += (
            f"; it needs {_need(methods)}" if any(methods) else "; it allows no method"
        )
        error.advice = _by_a_person(config) if _ASKING & set(methods) else _NO_KEYS_THERE
    elif _WANTS_MORE in error.evidence or re.search(_PARTIAL, said):
        if _WANTS_MORE not in error.evidence:
            error.evidence += f"; {_WANTS_MORE}"
        error.advice = _ANOTHER_KEY
    elif KEYS_ARE_OFF not in error.evidence and _are_keys_off(config):
        error.evidence += f"; {KEYS_ARE_OFF}"
    elif os.environ.get(PRIVATE_KEY_VARIABLE) == "" and not config.key_path:
        error.evidence += f"; {PRIVATE_KEY_VARIABLE} is set but empty"
        error.advice = (
            f"set {PRIVATE_KEY_VARIABLE} to the text of the key: is the secret named rightly?"
        )
    else:
        _explain_by_keys(error, config, said)


def _explain_by_keys(error: AuthenticationError, config: SSHConfig, said: str) -> None:
    """Look for a reason in the keys that no setting names, and in what ssh says of any key."""
    own_words = re.findall(_OF_KEYS, said)
    if own_words:
        error.evidence += "".join(f"; ssh: {words}" for words in own_words)
        if own_words[0].startswith("Load key"):
            error.advice = _UNREADABLE
    if config.key_path or config.private_key or os.environ.get(PRIVATE_KEY_VARIABLE):
        return
    # In process a key is offered whatever ssh thinks of its file.
    problem = (
        _problem_of(_usual_files(config), config) if said or "no key" in error.evidence else None
    )
    missing = _missing_files(config)
    if problem is not None:
        error.evidence += f"; the key file {problem.what}"
        error.advice = problem.fix
    elif NO_KEY in error.evidence or (said and _has_no_key(config)):
        why, error.advice = _why_no_key(config, missing)
        if NO_KEY in error.evidence:
            error.evidence = error.evidence.replace(NO_KEY, why)
        else:
            error.evidence += f"; {why}"
    elif missing:
        error.evidence += f"; {missing} does not exist"


def _why_no_key(config: SSHConfig, missing: str) -> tuple[str, str]:
    """Return the reason why there was no key to offer, and the next step."""
    reasons = [f"{missing} does not exist"] if missing else []
    if _leaves_agent_out(config) and keys_in_agent(_agent(config)):
        reasons.append("IdentitiesOnly in ~/.ssh/config leaves out the agent's keys")
    return (
        (f"there is no key: {', '.join(reasons)}", _NAME_A_KEY)
        if reasons
        else (NO_KEY, _MAKE_A_KEY)
    )


def _key_problem(config: SSHConfig) -> KeyProblem | None:
    """Return the fault of the host's key file, or of a private key that ssh's files name."""
    if config.key_path:
        return why_refused(expanded_home(expand(config.key_path)))
    named = _problem_of(_named_files(config), config)
    if named is None:
        for name, path in _named_files(config, "CertificateFile"):
            if found := problem_of_certificate(path):
                return KeyProblem(f"{name} {found.what}", found.fix)
    return named


def _problem_of(files: Iterable[tuple[str, Path]], config: SSHConfig) -> KeyProblem | None:
    for name, path in files:
        found = why_refused(path) if path.exists() else None  # ssh leaves a missing one out
        # A public key names one of the agent's.
        if found is not None and not (found.what == PUBLIC and _agent(config)):
            return KeyProblem(f"{name} {found.what}", found.fix)
    return None


def _named_files(config: SSHConfig, keyword: str = "IdentityFile") -> Iterator[tuple[str, Path]]:
    """Yield the files that ssh's files name: each name, and its path."""
    settings = settings_of(config)
    tokens = tokens_of(config, settings)
    for name in settings.values.get(keyword.lower(), ()):
        if name != "none":
            yield name, Path(expand_path(name, tokens, keyword))


def _missing_files(config: SSHConfig) -> str:
    """Return the files that ssh's files name and that are not there, as text; empty: none."""
    return " and ".join(
        f"{keyword} {name}"
        for keyword in ("IdentityFile", "CertificateFile")
        for name, path in _named_files(config, keyword)
        if not is_known(path)
    )


def _usual_files(config: SSHConfig) -> Iterator[tuple[str, Path]]:
    """Yield the files in which ssh looks for keys if no setting names one."""
    if "identityfile" not in settings_of(config).values:
        for name in (*USUAL_KEYS, _OLD_KEY):
            yield f"~/.ssh/{name}", Path.home() / ".ssh" / name


def _agent(config: SSHConfig) -> str:
    """Return the socket of the agent that ssh asks (ssh_config(5), IdentityAgent); empty: none."""
    settings = settings_of(config)
    own = settings.get("identityagent")
    if own in (None, "SSH_AUTH_SOCK"):
        return os.environ.get("SSH_AUTH_SOCK", "")
    if own == "none":
        return ""
    if own.startswith("$") and not own.startswith("${"):
        return os.environ.get(own[1:], "")
    return expand_path(own, tokens_of(config, settings), "IdentityAgent")


def _leaves_agent_out(config: SSHConfig) -> bool:
    """Return True if ssh offers those of the agent's keys only that its files name."""
    return settings_of(config).get("identitiesonly") in ("yes", "true")


def _has_no_key(config: SSHConfig) -> bool:
    """Return True if no key can have been offered."""
    if any(is_known(path) for _, path in (*_named_files(config), *_usual_files(config))):
        return False
    settings = settings_of(config)
    if "certificatefile" in settings.values or methods_of_openssh(settings.firsts()):
        return False  # a token may hold one, or the agent the key of a certificate
    return _leaves_agent_out(config) or not keys_in_agent(_agent(config))


def _has_one_key(config: SSHConfig) -> bool:
    """Return True if no more than one key can have been offered."""
    if config.key_path:
        return True
    files = [path for _, path in (*_named_files(config), *_usual_files(config)) if is_known(path)]
    return len(files) < 2 and (_leaves_agent_out(config) or not keys_in_agent(_agent(config)))


def _are_keys_off(config: SSHConfig) -> bool:
    settings = settings_of(config)
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
    shell = as_typed_for(config.id, "shell")
    if not config.use_control_master:
        return f"set use_control_master, then log in once with '{shell}'"
    return f"log in once with '{shell}': other commands then use its connection"
