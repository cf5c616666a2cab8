"""The ``ssh`` that becomes a control master: its arguments and environment.  Pure.

The user's ``~/.ssh/config`` applies as it does to any ``ssh``, except for the options that decide
which keys are trusted and how the master behaves: those are on the command line, which comes first,
and the first value that ssh obtains is used (ssh_config(5)).  A secret is in the environment only.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ringtasks.common.light_typing import NamedTuple
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE, SSHConfig
from ringtasks.ssh.host_keys import Pins, signature_algorithms
from ringtasks.ssh.known_hosts import known_name
from ringtasks.ssh.option_values import path_value, percent, quoted
from ringtasks.ssh.routes import ProcessProxy, Route
from ringtasks.ssh.ssh_command import identity_file

__all__ = [
    "Command",
    "Hop",
    "MasterStart",
    "Trust",
    "control_path_option",
    "master_command",
    "trust_of",
]

_CERTIFICATES = "*-cert-v01@openssh.com"
_NO_QUESTIONS = ("-o", "BatchMode=yes")
#: ssh is started in ``/``, and its ProxyCommand may name files relative to the current folder.
_IN_FOLDER = 'cd "$1" 2>/dev/null; shift; exec "$@"'


class Trust(NamedTuple):
    """The host keys that are accepted (ssh_config(5), StrictHostKeyChecking).

    ``known_hosts`` is a file of this master alone: it holds the pins, and ssh adds the key of a
    first contact to it.  ssh would write our known-hosts file without our lock, in lower case, and
    hashed if the system's settings say so (Debian's do); then a pin would not be found again.
    """

    policy: str
    known_hosts: Path
    name: str
    """The host's name in that file, which a certificate must contain too (HostKeyAlias)."""
    algorithms: tuple[str, ...] = ()
    tells_keys: bool = False
    """True if ssh has to log the key that it was shown, since its error would not name it."""
    configured: tuple[str, ...] = ()
    """The algorithms that ssh's files allow (HostKeyAlgorithms); empty: they name none."""
    has_command: bool = False
    """True if ssh's files name a KnownHostsCommand that must not be run: its lines are known."""


class Hop(NamedTuple):
    """A jump host, reached through another one or directly."""

    config: SSHConfig
    route: Route
    trust: Trust
    through: Hop | None = None
    identities: Sequence[str] = ()
    """More arguments, that name keys (`home_files.home_arguments`)."""


class MasterStart(NamedTuple):
    """The start of one master.

    :param hop: the jump host that the direct route goes through.
    :param proxy_command: the ProxyCommand of ssh's files, for the direct route.
    :param folder: the current folder, in which the ProxyCommand runs.
    :param carrier_log: gets the stderr of the ProxyCommand. ssh drops it under ControlPersist.
    :param is_dialled: the connection is already open, as ssh's stdin and stdout.
    :param may_ask: ssh may ask for a password or a second factor, at its terminal.
    :param algorithms: more options (`algorithms`).
    :param files: arguments that name ssh's files (`settings_files.file_arguments`).
    :param identities: arguments that name more keys (`home_files.home_arguments`).
    """

    config: SSHConfig
    route: Route
    control_path: Path
    trust: Trust
    hop: Hop | None
    proxy_command: str | None
    folder: str
    carrier_log: Path | None
    is_dialled: bool
    may_ask: bool
    algorithms: Mapping[str, str]
    files: Sequence[str]
    identities: Sequence[str]


class Command(NamedTuple):
    """A program to start: its arguments and environment."""

    argv: tuple[str, ...]
    environment: dict[str, str]

    def __repr__(self) -> str:
        return f"Command({self.argv!r})"  # the environment may hold secrets


def trust_of(pins: Pins, known_hosts: Path, name: str) -> Trust:
    """Return ssh's options for the decision of `host_keys.judge`."""
    tells_keys = bool(pins.authorities or pins.revoked)
    if not pins.is_pinned:  # "no" would accept a revoked key too
        return Trust("accept-new", known_hosts, name, tells_keys=tells_keys)
    of_keys = dict.fromkeys(name for pin in pins.keys for name in signature_algorithms(pin.type))
    algorithms = (*([_CERTIFICATES] if pins.authorities else ()), *of_keys)
    return Trust("yes", known_hosts, name, algorithms, tells_keys)


def master_command(start: MasterStart, environ: Mapping[str, str]) -> Command:
    """Return the master's arguments and its whole environment.

    :raises UsageError: ssh cannot be given a path.
    :raises InventoryError: a ``${VAR}`` is not set.
    """
    config, route = start.config, start.route
    options = {
        **_master_options(config, start.control_path),
        **_common_options(config, route, start.trust, _carrier_of(start, environ)),
        **_identity_options(config),
        **start.algorithms,
    }
    del options["ForwardAgent"]  # ssh's files decide, for the host itself
    if start.may_ask:
        del options["BatchMode"]
    flags = (*_flags(options), *start.identities)
    is_dialling = not start.is_dialled and route.proxy is None
    address = _address(config, route, is_dialling=is_dialling)
    argv = ("ssh", *start.files, "-M", "-N", "-f", *flags, *address)
    return Command(argv, _environment(route, environ))


def _carrier_of(start: MasterStart, environ: Mapping[str, str]) -> str | None:
    """Return the ProxyCommand; None: ssh dials by itself."""
    if start.proxy_command is not None:
        words = _in_users_shell(start.proxy_command, environ)
        return _logged(_in_folder(words, start.folder), start.carrier_log)
    if start.is_dialled:
        return "-"  # a connection that is already open (sshconnect.c, ssh_connect)
    hop_files = (*start.files, *(() if start.may_ask else _NO_QUESTIONS))
    carrier = _carrier(start.route, start.hop, hop_files)
    return _logged(_in_folder(carrier, start.folder), start.carrier_log) if carrier else None


def control_path_option(control_path: Path) -> str:
    """Return the argument that identifies a master's process."""
    return f"ControlPath={quoted(path_value(control_path))}"


def _master_options(config: SSHConfig, control_path: Path) -> dict[str, str]:
    return {
        "ControlPath": path_value(control_path),
        # 0 would keep it for ever.
        "ControlPersist": str(max(1, math.ceil(config.control_persist))),
        "ClearAllForwardings": "yes",
        "RequestTTY": "no",
        "PermitLocalCommand": "no",
        "RemoteCommand": "none",
    }


def _common_options(
    config: SSHConfig, route: Route, trust: Trust, carrier: str | None
) -> dict[str, str]:
    count = config.server_alive_count_max
    options = {
        "BatchMode": "yes",
        # VERBOSE: at ERROR ssh hides the server's banner, and why no algorithm was agreed on; at
        # INFO, that a method was accepted as a part of what the server wants.
        "LogLevel": "DEBUG1" if trust.tells_keys else "VERBOSE",
        "ConnectTimeout": str(max(1, math.ceil(config.connect_timeout))),
        # For ringtasks a count of 0 turns keepalives off; for ssh it means to give up at once.
        "ServerAliveInterval": str(math.ceil(config.server_alive_interval) if count else 0),
        "ServerAliveCountMax": str(max(1, count)),
        "ForwardAgent": "no",
        **route.ssh_options,
        **_trust_options(trust),
    }
    if carrier is not None:
        options |= {"ProxyCommand": carrier, "ProxyUseFdpass": "no"}
    elif route.name != "direct":
        options["ProxyCommand"] = "none"  # the one in ~/.ssh/config is for the public address
    return options


def _trust_options(trust: Trust) -> dict[str, str]:
    options = {
        "HostKeyAlias": trust.name,
        "UserKnownHostsFile": path_value(trust.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": trust.policy,
        "UpdateHostKeys": "no",
        "HashKnownHosts": "no",
        "CheckHostIP": "no",
        # Other sources of trust, which ~/.ssh/config may have turned on.
        "VerifyHostKeyDNS": "no",
        "NoHostAuthenticationForLocalhost": "no",
    }
    if trust.has_command:  # the option is unknown before OpenSSH 8.5
        options["KnownHostsCommand"] = "none"
    if trust.algorithms:
        options["HostKeyAlgorithms"] = _key_algorithms(trust)
    return options


def _key_algorithms(trust: Trust) -> str:
    """Return the algorithms that ssh's files allow (all if they name none), known keys' first."""
    if not trust.configured:
        return "^" + ",".join(trust.algorithms)

    def is_unknown(name: str) -> bool:
        return not any(fnmatchcase(name, known) for known in trust.algorithms)

    return ",".join(sorted(trust.configured, key=is_unknown))  # stable


def _identity_options(config: SSHConfig) -> dict[str, str]:
    key = identity_file(config)
    # Not -i: it checks for the file before the percent expansion.
    return {"IdentityFile": path_value(key), "IdentitiesOnly": "yes"} if key is not None else {}


def _address(config: SSHConfig, route: Route, *, is_dialling: bool = True) -> Iterator[str]:
    """Yield the destination's arguments: a name that ``~/.ssh/config`` may know, on any route.

    HostName is given only if ssh cannot know it: ``Match host`` would compare it, not the name.
    """
    destination = config.host or known_name(config.id)
    if config.user:
        yield from ("-l", config.user)
    if route.name != "direct" or route.port != 22:  # for 22, a port in ~/.ssh/config applies
        yield from ("-p", str(route.port))
    if is_dialling and route.name != "direct":
        yield from ("-o", f"HostName={percent(route.host)}")
    yield from ("--", destination)


def _carrier(route: Route, hop: Hop | None, files: Sequence[str]) -> list[str] | None:
    """Return the words of the ProxyCommand, with ssh's tokens in them."""
    if isinstance(route.proxy, ProcessProxy):
        return [percent(word) for word in (*route.proxy.argv, *route.proxy.log_flags)]
    if hop is not None and route.name == "direct":
        return list(_hop_words(hop, files))
    return None


def _in_folder(words: Sequence[str], folder: str) -> list[str]:
    return ["/bin/sh", "-c", _IN_FOLDER, "sh", percent(folder), *words]


def _in_users_shell(command: str, environ: Mapping[str, str]) -> list[str]:
    """Return a ProxyCommand for the user's shell, as ssh runs it; ssh expands its tokens."""
    shell = environ.get("SHELL") or "/bin/sh"
    return ["env", f"SHELL={percent(shell)}", percent(shell), "-c", f"exec {command}"]


def _logged(words: Sequence[str], log: Path | None) -> str:
    redirection = "" if log is None else f" 2>>{shlex.quote(percent(str(log)))}"
    return f"{shlex.join(words)}{redirection}"  # ssh itself prepends "exec"


def _hop_words(hop: Hop, files: Sequence[str]) -> Iterator[str]:
    """Yield the ``ssh`` command that connects the master to the host through the jump host."""
    carrier = _carrier(hop.route, hop.through, files)
    own_carrier = _logged(carrier, None) if carrier else None
    options = {
        "ControlMaster": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        **_common_options(hop.config, hop.route, hop.trust, own_carrier),
        **_identity_options(hop.config),
    }
    del options["BatchMode"]  # `files` holds it, unless the user may be asked
    flags = map(percent, (*files, *_flags(options), *hop.identities))
    *address, end, destination = map(percent, _address(hop.config, hop.route))
    # The outer ssh expands the tokens.
    yield from ("ssh", *flags, *address, "-W", "[%h]:%p", end, destination)


def _environment(route: Route, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name != PRIVATE_KEY_VARIABLE}
    if isinstance(route.proxy, ProcessProxy):
        kept = route.proxy.environment(kept)
    # The shell that runs the ProxyCommand (sshconnect.c): fish or tcsh would parse its quotes
    # differently.
    return kept | {"SHELL": "/bin/sh"}


def _flags(options: Mapping[str, str]) -> Iterator[str]:
    for name, value in options.items():
        # ssh takes the rest of a ProxyCommand's line verbatim.
        yield from ("-o", f"{name}={value if name == 'ProxyCommand' else quoted(value)}")
