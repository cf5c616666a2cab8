"""The ``deploy`` settings of ``invoke.yaml``, and the flags that override them.

Every error names its field; an unknown field is an error too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ringtasks.common.setting_checks import (
    Check,
    checked,
    count,
    environment,
    expected,
    flag,
    number,
    share,
    text,
    texts,
)
from ringtasks.errors import UsageError

__all__ = ["DeploySettings", "Hooks", "parse"]


@dataclass(frozen=True)
class Hooks:
    """Commands that this machine's ``/bin/sh`` runs; None: no command."""

    before: str | None = None
    """Runs before any host is locked; if it fails, nothing is deployed."""
    after: str | None = None
    """Runs when all hosts were deployed."""
    failed: str | None = None
    """Runs when not all hosts were deployed."""


@dataclass(frozen=True)
class DeploySettings:
    """Settings of one application. Durations are seconds.

    In ``path`` and ``check_url``, ``{host}``, ``{address}`` and the names of a host's facts are
    replaced by the host's values in the hosts file.
    """

    hosts: str
    path: str
    """Folder on the host; relative to its ``work_dir``, ``~`` is the remote home."""
    ref: str = "HEAD"
    """The git revision to release, if there is no ``source``."""
    source: str | None = None
    """A built folder or file (a wheel, for example) on this machine, to release."""
    exclude: tuple[str, ...] = ()
    """Patterns of files to leave out of ``source``, as for ``inv sync --exclude``."""
    shared: tuple[str, ...] = ()
    """Paths below ``PATH/shared``, linked into each release; a final ``/`` means a folder."""
    build: tuple[str, ...] = ()
    """Commands that run in the new release, on every host before any host is switched."""
    activate: tuple[str, ...] = ()
    """Commands that run in the new release right before the host is switched to it."""
    restart: str | None = None
    """Command that runs in the new release after the switch."""
    check: str | None = None
    """Command that is tried until it succeeds or ``check_timeout`` has passed."""
    check_url: str | None = None
    """URL that the host itself fetches, tried in the same way as ``check``."""
    upload_timeout: float = 1800.0
    build_timeout: float = 900.0
    restart_timeout: float = 60.0
    check_timeout: float = 30.0
    keep: int = 5
    """Number of releases to keep."""
    serial: int | str | None = None
    """Number of hosts to switch at once, ``2`` or ``25%``; None: all."""
    max_failures: int | str | None = None
    """Number of failed activations that stops the rollout, ``2`` or ``10%``; None: one."""
    revert: bool = True
    """Revert switched hosts if the rollout fails."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables for the commands on the hosts."""
    secrets: tuple[str, ...] = ()
    """Variables of this machine that the commands get too; their values are concealed."""
    hooks: Hooks = Hooks()

    def batch_size(self, hosts: int) -> int:
        """Return the number of hosts to switch at once."""
        return hosts if self.serial is None else share("deploy: serial", self.serial, hosts)

    def failure_limit(self, hosts: int) -> int:
        """Return the number of failed hosts that stops the rollout."""
        if self.max_failures is None:
            return 1
        return share("deploy: max_failures", self.max_failures, hosts)


def parse(given: object, **flags: Any) -> DeploySettings:
    """Return the settings of ``given``, a mapping from YAML; flags that are not None override it.

    :raises UsageError: a field is unknown, missing or invalid.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise UsageError(f"deploy: expected a mapping of settings, found {given!r}")
    merged = {**given, **{name: value for name, value in flags.items() if value is not None}}
    for required in ("hosts", "path"):
        if merged.get(required) is None:
            raise UsageError(
                f"deploy: {required}: is missing: set it under 'deploy:' in invoke.yaml "
                "(docs/deploy.md)"
            )
    settings = DeploySettings(**checked("deploy", merged, _FIELDS))
    if settings.source is not None and flags.get("ref") is not None:
        raise UsageError("--ref: the settings name a source, which is no git revision")
    return settings


def _ref(place: str, value: Any) -> str:
    if text(place, value).startswith("-"):
        raise expected(place, "a git revision", value)
    return str(value)


def _path(place: str, value: Any) -> str:
    folder = text(place, value).rstrip("/")
    parts = folder.split("/")
    if folder in ("", "~") or "\n" in folder or ".." in parts:
        raise expected(place, "a folder of the application's own", value)
    return folder


def _shared(place: str, value: Any) -> tuple[str, ...]:
    names = texts(place, value)
    for n, name in enumerate(names):
        parts = name.removesuffix("/").split("/")
        if name.startswith("~") or not all(parts) or {".", ".."} & set(parts) or "\n" in name:
            raise expected(f"{place}[{n}]", "a path below the release, without '..'", name)
    return names


def _url(place: str, value: Any) -> str:
    if not re.fullmatch(r"https?://[!-~]+", text(place, value)):
        raise expected(place, "a URL with http:// or https://", value)
    return str(value)


def _variables(place: str, value: Any) -> tuple[str, ...]:
    names = texts(place, value)
    for n, name in enumerate(names):
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise expected(f"{place}[{n}]", "a variable's name (letters, digits, _)", name)
    return names


def _share(place: str, value: Any) -> int | str:
    share(place, value, 100)
    found: int | str = value
    return found


def _hooks(place: str, value: Any) -> Hooks:
    if isinstance(value, Hooks):
        return value
    if not isinstance(value, Mapping):
        raise expected(place, "a mapping of before, after and failed", value)
    return Hooks(**checked(place, value, dict.fromkeys(_HOOKS, text)))


_HOOKS = tuple(f.name for f in fields(Hooks))
_SECONDS = number("seconds", above_zero=True)
_FIELDS: dict[str, Check] = {
    "hosts": text,
    "path": _path,
    "ref": _ref,
    "source": text,
    "exclude": texts,
    "shared": _shared,
    "build": texts,
    "activate": texts,
    "restart": text,
    "check": text,
    "check_url": _url,
    "upload_timeout": _SECONDS,
    "build_timeout": _SECONDS,
    "restart_timeout": _SECONDS,
    "check_timeout": _SECONDS,
    "keep": count(1),
    "serial": _share,
    "max_failures": _share,
    "revert": flag,
    "env": environment,
    "secrets": _variables,
    "hooks": _hooks,
}
assert set(_FIELDS) == {f.name for f in fields(DeploySettings)}  # noqa: S101  # none unchecked
