"""The ``deploy`` settings of ``invoke.yaml``, and the flags that override them.

Every error names its field; an unknown field is an error too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringtasks.common.setting_checks import (
    count,
    environment,
    expected,
    flag,
    seconds,
    selector,
    share,
    text,
    texts,
)
from ringtasks.common.settings import nested, read, setting
from ringtasks.errors import UsageError

__all__ = ["DeploySettings", "Hooks", "parse"]


_SECONDS = seconds(above_zero=True)


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


def _statuses(place: str, value: Any) -> tuple[str, ...]:
    found = tuple(map(str, value if isinstance(value, (list, tuple)) else [value]))
    if not found or not all(re.fullmatch(r"[1-5](\d\d|xx)", status) for status in found):
        raise expected(place, "HTTP statuses such as 204 or 2xx", value)
    return found


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


@dataclass(frozen=True)
class Hooks:
    """Commands that this machine's ``/bin/sh`` runs; None: no command."""

    before: str | None = setting(text, None)
    """Runs before any host is locked; if it fails, nothing is deployed."""
    after: str | None = setting(text, None)
    """Runs when all hosts were deployed."""
    failed: str | None = setting(text, None)
    """Runs when not all hosts were deployed."""


@dataclass(frozen=True)
class DeploySettings:
    """Settings of one application. Durations are seconds.

    In ``path`` and ``check_url``, ``{host}``, ``{address}`` and the names of a host's facts are
    replaced by the host's values in the hosts file.
    """

    hosts: str = setting(selector, flag="--host")
    path: str = setting(_path, flag=None)
    """Folder on the host; relative to its ``work_dir``, ``~`` is the remote home."""
    ref: str = setting(_ref, "HEAD")
    """The git revision to release, if there is no ``source``."""
    source: str | None = setting(text, None, flag=None)
    """A built folder or file (a wheel, for example) on this machine, to release."""
    exclude: tuple[str, ...] = setting(texts, (), flag=None)
    """Patterns of files to leave out of ``source``, as for ``inv sync --exclude``."""
    shared: tuple[str, ...] = setting(_shared, (), flag=None)
    """Paths below ``PATH/shared``, linked into each release; a final ``/`` means a folder."""
    build: tuple[str, ...] = setting(texts, (), flag=None)
    """Commands that run in the new release, on every host before any host is switched."""
    activate: tuple[str, ...] = setting(texts, (), flag=None)
    """Commands that run in the new release right before the host is switched to it."""
    restart: str | None = setting(text, None, flag=None)
    """Command that runs in the new release after the switch."""
    check: str | None = setting(text, None, flag=None)
    """Command that is tried until it succeeds or ``check_timeout`` has passed."""
    check_url: str | None = setting(_url, None, flag=None)
    """URL that the host itself fetches, tried in the same way as ``check``."""
    check_status: tuple[str, ...] = setting(_statuses, ("2xx",), flag=None)
    """HTTP statuses of ``check_url`` that count as success."""
    upload_timeout: float = setting(_SECONDS, 1800.0, flag=None)
    build_timeout: float = setting(_SECONDS, 900.0, flag=None)
    restart_timeout: float = setting(_SECONDS, 60.0, flag=None)
    check_timeout: float = setting(_SECONDS, 30.0, flag=None)
    keep: int = setting(count(1), 5, flag=None)
    """Number of releases to keep."""
    serial: int | str | None = setting(_share, None)
    """Number of hosts to switch at once, ``2`` or ``25%``; None: all."""
    max_failures: int | str | None = setting(_share, None)
    """Number of failed activations that stops the rollout, ``2`` or ``10%``; None: one."""
    revert: bool = setting(flag, True, flag="--no-revert")
    """Revert switched hosts if the rollout fails."""
    env: Mapping[str, str] = setting(environment, default_factory=dict, repr=False, flag=None)
    """Environment variables for the commands on the hosts."""
    secrets: tuple[str, ...] = setting(_variables, (), flag=None)
    """Variables of this machine that the commands get too; their values are concealed."""
    hooks: Hooks = setting(nested(Hooks), default_factory=Hooks, flag=None)

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
    settings = read(DeploySettings, "deploy", given, **flags)
    if settings.source is not None and flags.get("ref") is not None:
        raise UsageError("--ref: the settings name a source, which is no git revision")
    return settings
