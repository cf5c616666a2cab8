"""The user, address, time limit and keys of one Connection, settled before anything is sent.

Four levels may set them. The first level that does is used, in the order that Fabric documents for
its ``Connection``:

1. the arguments, then the host of the inventory or the `SSHConfig`;
2. ``~/.ssh/config`` (`ssh_config_of`);
3. Fabric's configuration, all of its levels;
4. the local user, port 22 and 10 s.

Both kinds of link get the same values. `ConnectionValues.for_master` is None if ssh cannot be told
one of them: then the connection is kept in process.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fabric
import paramiko
from fabric.util import get_local_user

from ringtasks.common import one_look
from ringtasks.common.alarms import notify
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.local_user import has_name
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import (
    DEFAULT_SSH_PORT,
    PRIVATE_KEY_VARIABLE,
    SSHConfig,
    changed,
    with_own,
)
from ringtasks.inventory.loader import find_host
from ringtasks.ssh.evaluated_config import HostSettings, ask, with_keepalive
from ringtasks.ssh.key_files import existing_key_file
from ringtasks.ssh.keywords import check
from ringtasks.ssh.option_values import expand_path, token_values
from ringtasks.ssh.settings_files import ignored_by_paramiko

from .fabric_settings import NoFileError, ssh_file_of
from .private_keys import key_of_file, key_of_text

__all__ = [
    "ArgumentValues",
    "ConnectionValues",
    "check_connect_kwargs",
    "given_by",
    "key_file_of",
    "settle",
    "ssh_config_of",
    "with_keys",
]

_DEFAULT_TIMEOUT = SSHConfig("").connect_timeout
_local_user = one_look.kept(get_local_user)


class ArgumentValues(NamedTuple):
    """The values of the first level. None: it sets none."""

    ssh: SSHConfig
    port: int | None
    connect_timeout: float | None


class ConnectionValues(NamedTuple):
    """The values of a connection.

    :ivar ssh: complete: its user, host and port are those in use.
    :ivar connect_timeout: None: no level sets one, and ``ssh`` has the default.
    :ivar for_master: the configuration for a control master: it leaves to ssh the values that only
        ``~/.ssh/config`` sets, so that the master is the one of `SSHClient` and the tasks.
    """

    ssh: SSHConfig
    connect_timeout: float | None
    for_master: SSHConfig | None


def given_by(
    host: str | SSHConfig, user: str | None, port: int | None, connect_timeout: float | None
) -> ArgumentValues:
    """Return the values from the caller and the inventory.

    :raises UnknownHostError: ``host`` is nearly a name of the inventory.
    :raises ValueError: user or port are in ``host`` and in an argument of their own.
    """
    named_port: int | None
    named_timeout: float | None
    port = _as_number(port)
    if isinstance(host, SSHConfig):
        ssh = host
        named_port = ssh.port if ssh.port != DEFAULT_SSH_PORT else None
        named_timeout = ssh.connect_timeout if ssh.connect_timeout != _DEFAULT_TIMEOUT else None
    else:
        found = find_host(host)
        if found is not None:
            ssh = SSHConfig.from_host_config(found)
            named_port, named_timeout = found.ssh_port, found.connect_timeout
        else:
            ssh, named_port = _parsed(host, user, port)
            named_timeout = None
        ssh = changed(ssh, batch_mode=False)  # a caller of Fabric's is asked at a terminal
    own = {} if port is None else {"port": port}
    port = port if port is not None else named_port
    timeout = named_timeout if connect_timeout is None else float(connect_timeout)
    # Fabric takes a connect_timeout of 0 as not given.
    changes = {"user": user, "connect_timeout": timeout or None, "port": named_port}
    known: Any = {name: value for name, value in changes.items() if value is not None}
    return ArgumentValues(with_own(changed(ssh, **known), **own), port, timeout)


def _as_number(port: Any) -> int | None:
    """Return a port that may be a text of digits; as in Fabric, 0 stands for none.

    :raises ValueError: it is a text without a number.
    """
    if isinstance(port, str):
        try:
            port = int(port)
        except ValueError as error:
            raise ValueError(f"port: expected a port from 1 to 65535, found {port!r}") from error
    return port or None


def _parsed(host: str, user: str | None, port: int | None) -> tuple[SSHConfig, int | None]:
    """Parse an address that is not in the inventory; return its port if it names one."""
    from ringtasks.ssh.plain_hosts import plain_host

    ssh = plain_host(host)
    place = host.removeprefix("ssh://").rstrip("/").rpartition("@")[2]
    has_port = place not in (ssh.host, f"[{ssh.host}]")
    for name, is_in_host, argument in (("user", ssh.user, user), ("port", has_port, port)):
        if is_in_host and argument is not None:
            raise ValueError(f"{host!r}: the {name} is also given by {name}=: give it once")
    return ssh, ssh.port if has_port else None


def ssh_config_of(settings: fabric.Config, given: ArgumentValues) -> Mapping[str, Any]:
    """Return the configuration of a host in ssh's files: keyword in lower case to value.

    ``identityfile`` is a list.  A missing keyword is not configured.  OpenSSH is asked, unless
    there is no ``ssh`` or the configuration holds an SSHConfig object of its own.

    :raises UsageError: ssh cannot use its files.
    """
    host = given.ssh.host or given.ssh.id  # a host without an address: its name
    answer = None
    with contextlib.suppress(NoFileError):
        file = ssh_file_of(settings, given.ssh.ssh_config_file)
        timeout = given.connect_timeout or _DEFAULT_TIMEOUT
        answer = ask(host, user=given.ssh.user, port=given.port, file=file, timeout=timeout)
        if answer is None and (ignored := ignored_by_paramiko(file)):
            _tell_what_is_ignored(ignored)
    if answer is not None:
        check(answer.values, given.ssh.id)
        return _as_paramiko_has_it(answer, given, settings)
    found: Mapping[str, Any] = settings.base_ssh_config.lookup(host)
    return found


@functools.cache
def _tell_what_is_ignored(ignored: str) -> None:
    """Give one notice: without ssh, Paramiko's parser reads ssh's files."""
    notify("ssh_config", f"{ignored} of ssh's files is not understood without ssh: install it")


def _as_paramiko_has_it(
    answer: HostSettings, given: ArgumentValues, settings: fabric.Config
) -> Mapping[str, Any]:
    """Return an answer of ``ssh -G`` as ``paramiko.SSHConfig.lookup`` returns one."""
    found: Any = paramiko.SSHConfigDict(answer.firsts())  # beside text, lists
    found.pop("host", None)
    found.setdefault("hostname", given.ssh.host or given.ssh.id)  # Paramiko always has it
    values = token_values(
        name=given.ssh.host or given.ssh.id,
        address=found["hostname"],
        port=given.port or found.get("port", DEFAULT_SSH_PORT),
        user=str(found.get("user", given.ssh.user or settings.user)),
        local_user=_local_user() or "",
        alias=found.get("hostkeyalias", ""),
    )
    values = answer.tokens(values)
    for keyword in ("sendenv", "setenv"):
        if keyword in found:
            found[keyword] = list(answer.values[keyword])
    for keyword in ("identityfile", "certificatefile", "identityagent"):
        if keyword in found:
            found[keyword] = [
                expand_path(file, values, keyword)
                for file in answer.values[keyword]
                if file != "none"
            ]
    if found.get("forwardagent") not in (None, "yes", "no"):
        found["forwardagent"] = expand_path(found["forwardagent"], values, "forwardagent")
    as_mapping: Mapping[str, Any] = found
    return as_mapping


def settle(
    given: ArgumentValues, settings: fabric.Config, ssh_config: Mapping[str, Any]
) -> ConnectionValues:
    """Return the values in use, from all four levels."""
    ssh = given.ssh
    timeout = given.connect_timeout
    if timeout is None:
        timeout = _seconds(ssh_config.get("connecttimeout", settings.timeouts.connect))
    port = given.port or int(ssh_config.get("port", settings.port))
    limits: Any = {"connect_timeout": timeout} if timeout else {}
    settled = changed(
        ssh,
        user=ssh.user or ssh_config.get("user") or _user_of(settings),
        port=port,
        host=ssh.host and ssh_config.get("hostname", ssh.host),
        ssh_config_host=ssh.name_in_ssh_config,
        address_family=ssh.address_family
        if ssh.address_family != "any"
        else ssh_config.get("addressfamily", "any"),
        bind_address=ssh.bind_address or ssh_config.get("bindaddress"),
        **limits,
    )
    if not has_name() and not (ssh.user or "user" in ssh_config):
        raise UsageError(
            f"{ssh.id}: ssh_user is not set, and user id {os.getuid()} of this machine has no "
            "name: set ssh_user, or USER in the environment"
        )
    settled = with_keepalive(settled, ssh_config)
    if settled.id != _id(given, settings, ssh_config):
        settled = changed(settled, name=_id(given, settings, ssh_config))
    return ConnectionValues(settled, timeout, _for_master(settled, given, settings, ssh_config))


def _user_of(settings: fabric.Config) -> str | None:
    """Return the user of Fabric's configuration; if that is None, the local one, as in Paramiko.

    :raises UsageError: it is an empty text.
    """
    if settings.user == "":
        raise UsageError("user is empty in Fabric's configuration: name a user, or leave it out")
    user: str | None = settings.user if settings.user is not None else _local_user()
    return user


def key_file_of(ssh: SSHConfig) -> Path | None:
    """Return the key file of the inventory, if it names one.

    :raises UsageError: it does not exist, or the key in the environment is not a private key.
    """
    _key_in_text(ssh)
    return existing_key_file(ssh)


def with_keys(
    connect_kwargs: Mapping[str, Any],
    ssh: SSHConfig,
    key_file: Path | None,
    ssh_config: Mapping[str, Any],
) -> dict[str, Any]:
    """Return ``connect_kwargs`` with the keys that this process has parsed already.

    An ``IdentityFile`` that does not exist is left out, as ssh does, unless its public key is
    there: that names a key of the agent.
    """
    own = dict(connect_kwargs)
    key = _key_in_text(ssh)
    if key is not None:
        own.setdefault("pkey", key)
    optional = ssh_config.get("identityfile", [])
    files = [
        file
        for file in _key_files(own)
        if file not in optional or any(map(os.path.exists, (file, f"{file}.pub")))
    ]
    # To add a key to the agent (ssh_config(5), AddKeysToAgent), the log-in has to know its file.
    stays_file = ssh_config.get("addkeystoagent", "no") != "no"
    has_own = {"pkey", "passphrase", "password"} & own.keys()
    if key_file is not None and not has_own and not stays_file:
        key = key_of_file(key_file)
        if key is not None:
            own["pkey"] = key
            files = [file for file in files if file != str(key_file)]
    own.pop("key_filename", None)
    return {**own, "key_filename": files} if files else own


def check_connect_kwargs(
    connect_kwargs: Mapping[str, Any],
    connect_timeout: float | None,
    ssh_config: Mapping[str, Any],
) -> None:
    """Refuse the arguments that Fabric or Paramiko would refuse after connecting.

    :raises TypeError: Paramiko has no such argument.
    :raises ValueError: a value belongs into an argument of its own.
    :raises FileNotFoundError: a key file named for this connection does not exist.
    """
    unknown = sorted(name for name in connect_kwargs if name not in _taken_by_connect())
    if unknown:
        raise TypeError(f"connect_kwargs: SSHClient.connect takes no {', '.join(unknown)}")
    for name in ("hostname", "port", "username"):
        if name in connect_kwargs:
            raise ValueError(f"connect_kwargs: {name} is given by an argument of Connection")
    if "timeout" in connect_kwargs and connect_timeout is not None:
        raise ValueError("connect_kwargs: timeout is also given by connect_timeout")
    for file in _key_files(connect_kwargs):
        if file not in ssh_config.get("identityfile", []) and not Path(file).exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)


@functools.cache
def _taken_by_connect() -> frozenset[str]:
    """Return the parameters of ``SSHClient.connect`` in the installed Paramiko."""
    return frozenset(inspect.signature(paramiko.SSHClient.connect).parameters) - {"self"}


def _key_in_text(ssh: SSHConfig) -> paramiko.PKey | None:
    text = ssh.private_key or os.environ.get(PRIVATE_KEY_VARIABLE)
    return key_of_text(text) if text else None


def _key_files(connect_kwargs: Mapping[str, Any]) -> list[str]:
    files = connect_kwargs.get("key_filename") or []
    return [files] if isinstance(files, str) else list(files)


def _id(given: ArgumentValues, settings: fabric.Config, ssh_config: Mapping[str, Any]) -> str:
    """Return the name for the host's key, the same for both kinds of link.

    It is made from the request. A HostName or Port of ``~/.ssh/config`` does not change it; a port
    of Fabric's configuration does, since another server answers there.
    """
    if given.port is None and "port" not in ssh_config:
        return changed(given.ssh, port=int(settings.port)).id
    return given.ssh.id


def _for_master(
    settled: SSHConfig,
    given: ArgumentValues,
    settings: fabric.Config,
    ssh_config: Mapping[str, Any],
) -> SSHConfig | None:
    if not given.ssh.use_control_master:
        return None
    try:
        file = ssh_file_of(settings, given.ssh.ssh_config_file)
    except NoFileError:
        return None
    is_users = settled.user != ssh_config.get("user", _local_user())
    is_port_of_fabric = given.port is None and "port" not in ssh_config
    port = settled.port if is_port_of_fabric else given.ssh.port
    if settled.port == DEFAULT_SSH_PORT and "port" in ssh_config and given.port is not None:
        return None  # port 22 leaves it to ssh, which would use the configured one
    is_fabrics = _user_of(settings) != _local_user() or int(settings.port) != DEFAULT_SSH_PORT
    if (given.ssh.proxy_jump or "proxyjump" in ssh_config) and is_fabrics:
        return None  # Fabric's user and port are also those of the jump host
    return changed(
        given.ssh,
        user=settled.user if is_users else given.ssh.user,
        port=port,
        connect_timeout=settled.connect_timeout,
        name=settled.name,
        ssh_config_file=file,
    )


def _seconds(value: Any) -> float | None:
    """Return a time limit of a configuration file; None: there is none."""
    if value is None or value == "none":
        return None
    number = float(value)
    return int(number) if number.is_integer() else number
