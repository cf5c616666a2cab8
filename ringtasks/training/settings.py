"""The settings of a run: the ``train`` settings of ``invoke.yaml``, overridden by flags.

Every error names its field; an unknown field is an error too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ringtasks.common.setting_checks import (
    SettingError,
    checked,
    count,
    environment,
    expected,
    flag,
    number,
    seconds,
    selector,
    text,
    texts,
    word,
)
from ringtasks.common.settings import nested, read, setting

__all__ = ["Preflight", "SyncUp", "TrainSettings", "parse", "to_mapping"]


class SyncUp(NamedTuple):
    """A local file or folder, and the folder below ``cwd`` that receives it, or its content."""

    source: str
    target: str = "."


_SECONDS = seconds(above_zero=True)


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
                raise SettingError(f"{at}: from", "is not set")
            found.append(SyncUp(own["from"], own.get("to", ".")))
        else:
            raise expected(at, "a path, or a mapping of 'from' and 'to'", item)
    return tuple(found)


@dataclass(frozen=True)
class Preflight:
    """The requirements for a host before a run starts there. Durations are seconds."""

    imports: tuple[str, ...] = setting(_modules, ())
    """Modules that the run's ``python3`` must be able to import."""
    min_disk_gb: float = setting(number("a number"), 1.0)
    """Free space for ``cwd``, in units of 10⁹ bytes."""
    max_clock_skew: float = setting(seconds(), 30.0)
    driver_timeout: float = setting(_SECONDS, 15.0)
    """Limit for ``nvidia-smi``: a GPU that hangs lets it wait for ever."""
    gpu_count: int | None = setting(count(0), None)
    """Number of GPUs that the host must have; None: its fact ``gpu_count``, else any number."""


def _preflight(place: str, value: Any) -> Preflight | None:
    if isinstance(value, bool):
        return Preflight() if value else None
    if not isinstance(value, Mapping):
        raise expected(place, "true, false or a mapping of checks", value)
    found: Preflight = nested(Preflight)(place, value)
    return found


@dataclass(frozen=True)
class TrainSettings:
    """One training run. Folders on the host are below its home unless they say otherwise."""

    command: str = setting(text, flag="--cmd")
    hosts: str = setting(selector, flag="--host")
    name: str = setting(word, "train")
    gpus: int = setting(count(0), 0)
    """GPUs on each host, reserved for the run; 0: it uses none."""
    any_memory: bool = setting(flag, False, flag="--gpus")
    """Take also GPUs whose memory is in use by no visible process."""
    nodes: int = setting(count(1), 1)
    nproc_per_node: int = setting(count(1), 1)
    env: Mapping[str, str] = setting(environment, default_factory=dict, repr=False)
    cwd: str | None = setting(text, None)
    """None: a folder of the run's own: ``runs/RUN`` in the host's ``work_dir``, else its home."""
    venv: str | None = setting(text, None)
    """None: the host's ``venv_activate``."""
    log_file: str | None = setting(text, None)
    sync_up: tuple[SyncUp, ...] = setting(_sync_up, ())
    setup: tuple[str, ...] = setting(texts, ())
    """Commands that run in ``cwd`` before the run, unless they have succeeded with the same text
    and inputs.
    """
    setup_inputs: tuple[str, ...] = setting(_paths_below, (), flag=None)
    """Files and folders below ``cwd`` that ``setup`` depends on, besides those that it names."""
    fetch: tuple[str, ...] = setting(_paths_below, ())
    """Files and folders below ``cwd`` to copy to the local folder of the run once it has ended."""
    fetch_timeout: float = setting(_SECONDS, 3600.0, flag=None)
    """Seconds for all transfers once the run has ended: the last pull of the checkpoint, ``fetch``
    and ``metrics``.
    """
    metrics: tuple[str, ...] = setting(_paths_below, (), flag=None)
    """Files and folders below ``cwd`` with the metrics of the run, to draw instead of its log."""
    runs: str = setting(text, "runs", flag=None)
    """The local folder that holds a folder for each run."""
    preflight: Preflight | None = setting(
        _preflight, default_factory=Preflight, flag="--no-preflight"
    )
    """None: no checks."""
    retries: int = setting(count(0), 0)
    """The number of times that another host may take over."""
    checkpoint: str | None = setting(_folder_below, None)
    """The folder below ``cwd`` that a takeover starts from."""
    checkpoint_done: str | None = setting(_path_below, None)
    """The file that is written last into a checkpoint, whose folder is complete once it is there:
    ``checkpoint`` itself, or a folder in it. None: a checkpoint is complete if it does not change
    while it is pulled.
    """
    checkpoint_interval: float = setting(_SECONDS, 60.0)
    lost_after: float = setting(_SECONDS, 600.0)
    """Seconds without an answer until a host counts as lost."""
    allow_split: bool = setting(flag, False)
    """Let another host take over if the first cannot be asked whether the run still continues."""
    grace: float = setting(seconds(), 30.0, flag=None)
    """Seconds that processes get to end by themselves when the run is stopped."""

    @property
    def uses_torchrun(self) -> bool:
        """True if there are several ranks, which torchrun starts."""
        return self.nodes > 1 or self.nproc_per_node > 1

    def __post_init__(self) -> None:
        if self.allow_split and not self.retries:
            raise SettingError("train: allow_split", "has a meaning only with retries")
        if self.checkpoint_done and not self.checkpoint:
            raise SettingError("train: checkpoint_done", "has a meaning only with checkpoint")
        if self.retries and self.nodes > 1:
            raise SettingError("train: retries", "are for runs on one host; nodes is above 1")


def parse(given: object, **flags: Any) -> TrainSettings:
    """Return the settings of the mapping ``given``, overridden by each flag that is not None.

    :raises UsageError: a field is unknown, missing or invalid.
    """
    return read(TrainSettings, "train", given, **flags)


def to_mapping(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings as YAML values, for `parse`; without ``env``, which may be secret."""
    found = {name: value for name, value in asdict(settings).items() if name != "env"}
    found["sync_up"] = [{"from": item.source, "to": item.target} for item in settings.sync_up]
    found["preflight"] = found["preflight"] or False
    return found
