"""What to train and how: the ``train`` settings of ``invoke.yaml``, and flags over them.

Every fault is told with the name of its field; a field that is not known is a fault too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from ..errors import UsageError

__all__ = ["Preflight", "SyncUp", "TrainSettings", "parse"]


class SyncUp(NamedTuple):
    """A file or folder here, and the folder below ``cwd`` that is to hold it, or what is in it."""

    source: str
    target: str = "."


@dataclass(frozen=True)
class Preflight:
    """What a host must show before a run starts there. Durations are seconds."""

    imports: tuple[str, ...] = ()
    """Modules that the run's ``python3`` must be able to import."""
    min_disk_gb: float = 1.0
    """Free space for ``cwd``, in units of 10⁹ bytes."""
    max_clock_skew: float = 30.0
    driver_timeout: float = 15.0
    """How long ``nvidia-smi`` may take: a GPU that hangs lets it wait for ever."""
    gpu_count: int | None = None
    """How many GPUs the host is to have; None: its fact ``gpu_count``, else any number."""


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Folders on the host are below its home unless they say otherwise."""

    command: str
    hosts: str
    name: str = "train"
    gpus: int = 0
    """GPUs a host, reserved for the run; 0: it uses none."""
    nodes: int = 1
    nproc_per_node: int = 1
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    """None: the host's ``work_dir``, else the remote home."""
    venv: str | None = None
    """None: the host's ``venv_activate``."""
    log_file: str | None = None
    sync_up: tuple[SyncUp, ...] = ()
    fetch: tuple[str, ...] = ()
    """Files and folders below ``cwd`` that come to the run's folder here once it has ended."""
    runs: str = "runs"
    """The folder here that holds a folder for each run."""
    preflight: Preflight | None = Preflight()
    """None: no checks."""
    retries: int = 0
    """How often another host may take over."""
    checkpoint: str | None = None
    """The folder below ``cwd`` that a takeover starts from."""
    checkpoint_interval: float = 60.0
    lost_after: float = 600.0
    """Seconds without an answer until a host counts as lost."""
    allow_split: bool = False
    """Let another host take over from one that cannot be asked whether the run still goes on."""
    grace: float = 30.0
    """Seconds that processes get to end by themselves when the run is stopped."""

    def __post_init__(self) -> None:
        if self.allow_split and not self.retries:
            raise UsageError("train: allow_split: has a meaning only with retries")
        if self.retries and self.nodes > 1:
            raise UsageError("train: retries: are for runs on one host; nodes is above 1")


def parse(given: object, **flags: Any) -> TrainSettings:
    """The settings of ``given``, a mapping as YAML has it, with each flag that is not None over it.

    :raises UsageError: a field is unknown, missing, or not what it must be.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise UsageError(f"train: expected a mapping of settings, found {given!r}")
    merged = {**given, **{name: value for name, value in flags.items() if value is not None}}
    for required, flag in (("command", "--cmd"), ("hosts", "--host")):
        if merged.get(required) is None:
            raise UsageError(
                f"train: {required}: is missing: give {flag}, or set it in invoke.yaml"
            )
    return TrainSettings(**_checked("train", merged, _FIELDS))


_Check = Callable[[str, Any], Any]


def _checked(place: str, given: Mapping[Any, Any], known: Mapping[str, _Check]) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        if name not in known:
            from ..inventory import near_names

            near = near_names(str(name), known)
            meant = f"; did you mean {', '.join(near)}?" if near else ""
            raise UsageError(f"{place}: {name}: is not a setting{meant}")
        if value is not None:
            found[str(name)] = known[name](f"{place}: {name}", value)
    return found


def _expected(place: str, what: str, value: object) -> UsageError:
    return UsageError(f"{place}: expected {what}, found {value!r}")


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _expected(place, "text (in quotes, if it looks like a number)", value)
    return value


def _word(place: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", value):
        raise _expected(place, "a word of letters, digits, '_', '.' and '-'", value)
    return value


def _flag(place: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _expected(place, "true or false", value)
    return value


def _count(at_least: int) -> _Check:
    def check(place: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise _expected(place, f"a whole number, at least {at_least}", value)
        return value

    return check


def _number(what: str, *, above_zero: bool = False) -> _Check:
    def check(place: str, value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not (value > 0 if above_zero else value >= 0) or value == float("inf"):
            limit = "above 0" if above_zero else "not below 0"
            raise _expected(place, f"{what}, {limit}", value)
        return float(value)

    return check


def _texts(place: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise _expected(place, "a list", value)
    return tuple(_text(f"{place}[{n}]", item) for n, item in enumerate(items))


def _below(place: str, value: str) -> str:
    """A path that stays below the folder that it is taken from."""
    if value.startswith(("/", "~")) or ".." in value.split("/"):
        raise _expected(place, "a path below cwd, without '..'", value)
    return value


def _paths_below(place: str, value: Any) -> tuple[str, ...]:
    return tuple(_below(f"{place}[{n}]", item) for n, item in enumerate(_texts(place, value)))


def _path_below(place: str, value: Any) -> str:
    return _below(place, _text(place, value))


def _modules(place: str, value: Any) -> tuple[str, ...]:
    names = _texts(place, value)
    for n, name in enumerate(names):
        if not all(part.isidentifier() for part in name.split(".")):
            raise _expected(f"{place}[{n}]", "a module's name", name)
    return names


def _environment(place: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{place}: expected a mapping of names and values")
    for name, setting in value.items():
        # The value is not shown: it may be a secret.
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise _expected(place, "a variable's name (letters, digits, _)", name)
        if isinstance(setting, (bool, dict, list)) or setting is None:
            raise UsageError(f"{place}: {name}: expected text or a number")
    return {name: str(setting) for name, setting in value.items()}


def _sync_up(place: str, value: Any) -> tuple[SyncUp, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    found = []
    for n, item in enumerate(items):
        at = f"{place}[{n}]"
        if isinstance(item, SyncUp):
            found.append(item)
        elif isinstance(item, str):
            found.append(SyncUp(_text(at, item)))
        elif isinstance(item, Mapping):
            own = _checked(at, item, {"from": _text, "to": _path_below})
            if "from" not in own:
                raise UsageError(f"{at}: from: is missing")
            found.append(SyncUp(own["from"], own.get("to", ".")))
        else:
            raise _expected(at, "a path, or a mapping of 'from' and 'to'", item)
    return tuple(found)


def _preflight(place: str, value: Any) -> Preflight | None:
    if isinstance(value, bool):
        return Preflight() if value else None
    if not isinstance(value, Mapping):
        raise _expected(place, "true, false or a mapping of checks", value)
    return Preflight(**_checked(place, value, _PREFLIGHT_FIELDS))


_PREFLIGHT_FIELDS: dict[str, _Check] = {
    "imports": _modules,
    "min_disk_gb": _number("a number"),
    "max_clock_skew": _number("seconds"),
    "driver_timeout": _number("seconds", above_zero=True),
    "gpu_count": _count(0),
}
_FIELDS: dict[str, _Check] = {
    "command": _text,
    "hosts": _text,
    "name": _word,
    "gpus": _count(0),
    "nodes": _count(1),
    "nproc_per_node": _count(1),
    "env": _environment,
    "cwd": _text,
    "venv": _text,
    "log_file": _text,
    "sync_up": _sync_up,
    "fetch": _paths_below,
    "runs": _text,
    "preflight": _preflight,
    "retries": _count(0),
    "checkpoint": _path_below,
    "checkpoint_interval": _number("seconds", above_zero=True),
    "lost_after": _number("seconds", above_zero=True),
    "allow_split": _flag,
    "grace": _number("seconds"),
}
assert set(_FIELDS) == {f.name for f in fields(TrainSettings)}  # noqa: S101  # no field unchecked
assert set(_PREFLIGHT_FIELDS) == {f.name for f in fields(Preflight)}  # noqa: S101
