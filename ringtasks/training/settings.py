"""The settings of a run: the ``train`` settings of ``invoke.yaml``, overridden by flags.

Every error names its field; an unknown field is an error too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from ringtasks.common.setting_checks import (
    Check,
    checked,
    count,
    environment,
    expected,
    flag,
    number,
    text,
    texts,
    word,
)
from ringtasks.errors import UsageError

__all__ = ["Preflight", "SyncUp", "TrainSettings", "parse", "to_mapping"]


class SyncUp(NamedTuple):
    """A local file or folder, and the folder below ``cwd`` that receives it, or its content."""

    source: str
    target: str = "."


@dataclass(frozen=True)
class Preflight:
    """The requirements for a host before a run starts there. Durations are seconds."""

    imports: tuple[str, ...] = ()
    """Modules that the run's ``python3`` must be able to import."""
    min_disk_gb: float = 1.0
    """Free space for ``cwd``, in units of 10⁹ bytes."""
    max_clock_skew: float = 30.0
    driver_timeout: float = 15.0
    """Limit for ``nvidia-smi``: a GPU that hangs lets it wait for ever."""
    gpu_count: int | None = None
    """Number of GPUs that the host must have; None: its fact ``gpu_count``, else any number."""


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Folders on the host are below its home unless they say otherwise."""

    command: str
    hosts: str
    name: str = "train"
    gpus: int = 0
    """GPUs on each host, reserved for the run; 0: it uses none."""
    nodes: int = 1
    nproc_per_node: int = 1
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    """None: a folder of the run's own: ``runs/RUN`` in the host's ``work_dir``, else its home."""
    venv: str | None = None
    """None: the host's ``venv_activate``."""
    log_file: str | None = None
    sync_up: tuple[SyncUp, ...] = ()
    setup: tuple[str, ...] = ()
    """Commands that run in ``cwd`` before the run, unless they have succeeded with the same text
    and inputs.
    """
    setup_inputs: tuple[str, ...] = ()
    """Files and folders below ``cwd`` that ``setup`` depends on, besides those that it names."""
    fetch: tuple[str, ...] = ()
    """Files and folders below ``cwd`` to copy to the local folder of the run once it has ended."""
    runs: str = "runs"
    """The local folder that holds a folder for each run."""
    preflight: Preflight | None = Preflight()
    """None: no checks."""
    retries: int = 0
    """The number of times that another host may take over."""
    checkpoint: str | None = None
    """The folder below ``cwd`` that a takeover starts from."""
    checkpoint_done: str | None = None
    """The file that is written last into a checkpoint, whose folder is complete once it is there:
    ``checkpoint`` itself, or a folder in it. None: a checkpoint is complete if it does not change
    while it is pulled.
    """
    checkpoint_interval: float = 60.0
    lost_after: float = 600.0
    """Seconds without an answer until a host counts as lost."""
    allow_split: bool = False
    """Let another host take over if the first cannot be asked whether the run still continues."""
    grace: float = 30.0
    """Seconds that processes get to end by themselves when the run is stopped."""

    @property
    def uses_torchrun(self) -> bool:
        """True if there are several ranks, which torchrun starts."""
        return self.nodes > 1 or self.nproc_per_node > 1

    def __post_init__(self) -> None:
        if self.allow_split and not self.retries:
            raise UsageError("train: allow_split: has a meaning only with retries")
        if self.checkpoint_done and not self.checkpoint:
            raise UsageError("train: checkpoint_done: has a meaning only with checkpoint")
        if self.retries and self.nodes > 1:
            raise UsageError("train: retries: are for runs on one host; nodes is above 1")


def parse(given: object, **flags: Any) -> TrainSettings:
    """Return the settings of the mapping ``given``, overridden by each flag that is not None.

    :raises UsageError: a field is unknown, missing or invalid.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise UsageError(f"train: expected a mapping of settings, found {given!r}")
    merged = {**given, **{name: value for name, value in flags.items() if value is not None}}
    for required, name in (("command", "--cmd"), ("hosts", "--host")):
        if merged.get(required) is None:
            raise UsageError(
                f"train: {required}: is missing: give {name}, or set it in invoke.yaml"
            )
    return TrainSettings(**checked("train", merged, _FIELDS))


def to_mapping(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings as YAML values, for `parse`; without ``env``, which may be secret."""
    found = {name: getattr(settings, name) for name in _FIELDS if name != "env"}
    found["sync_up"] = [{"from": item.source, "to": item.target} for item in settings.sync_up]
    for name in ("fetch", "setup", "setup_inputs"):
        found[name] = list(found[name])
    if settings.preflight is None:
        found["preflight"] = False
    else:
        checks = asdict(settings.preflight)
        found["preflight"] = {**checks, "imports": list(settings.preflight.imports)}
    return found


def _below(place: str, value: str) -> str:
    """Return a path that stays below its base folder."""
    if value.startswith(("/", "~")) or ".." in value.split("/"):
        raise expected(place, "a path below cwd, without '..'", value)
    return value


def _paths_below(place: str, value: Any) -> tuple[str, ...]:
    return tuple(_below(f"{place}[{n}]", item) for n, item in enumerate(texts(place, value)))


def _folder_below(place: str, value: Any) -> str:
    folder = posixpath.normpath(_path_below(place, value))
    if folder == ".":
        raise expected(place, "a folder below cwd, not cwd itself", value)
    return folder


def _path_below(place: str, value: Any) -> str:
    return _below(place, text(place, value))


def _modules(place: str, value: Any) -> tuple[str, ...]:
    names = texts(place, value)
    for n, name in enumerate(names):
        if not all(part.isidentifier() for part in name.split(".")):
            raise expected(f"{place}[{n}]", "a module's name", name)
    return names


def _sync_up(place: str, value: Any) -> tuple[SyncUp, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    found = []
    for n, item in enumerate(items):
        at = f"{place}[{n}]"
        if isinstance(item, SyncUp):
            found.append(item)
        elif isinstance(item, str):
            found.append(SyncUp(text(at, item)))
        elif isinstance(item, Mapping):
            own = checked(at, item, {"from": text, "to": _path_below})
            if "from" not in own:
                raise UsageError(f"{at}: from: is missing")
            found.append(SyncUp(own["from"], own.get("to", ".")))
        else:
            raise expected(at, "a path, or a mapping of 'from' and 'to'", item)
    return tuple(found)


def _preflight(place: str, value: Any) -> Preflight | None:
    if isinstance(value, bool):
        return Preflight() if value else None
    if not isinstance(value, Mapping):
        raise expected(place, "true, false or a mapping of checks", value)
    return Preflight(**checked(place, value, _PREFLIGHT_FIELDS))


_PREFLIGHT_FIELDS: dict[str, Check] = {
    "imports": _modules,
    "min_disk_gb": number("a number"),
    "max_clock_skew": number("seconds"),
    "driver_timeout": number("seconds", above_zero=True),
    "gpu_count": count(0),
}
_FIELDS: dict[str, Check] = {
    "command": text,
    "hosts": text,
    "name": word,
    "gpus": count(0),
    "nodes": count(1),
    "nproc_per_node": count(1),
    "env": environment,
    "cwd": text,
    "venv": text,
    "log_file": text,
    "sync_up": _sync_up,
    "setup": texts,
    "setup_inputs": _paths_below,
    "fetch": _paths_below,
    "runs": text,
    "preflight": _preflight,
    "retries": count(0),
    "checkpoint": _folder_below,
    "checkpoint_done": _path_below,
    "checkpoint_interval": number("seconds", above_zero=True),
    "lost_after": number("seconds", above_zero=True),
    "allow_split": flag,
    "grace": number("seconds"),
}
assert set(_FIELDS) == {f.name for f in fields(TrainSettings)}  # noqa: S101  # no field unchecked
assert set(_PREFLIGHT_FIELDS) == {f.name for f in fields(Preflight)}  # noqa: S101
