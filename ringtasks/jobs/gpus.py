"""Parse the GPUs of a host from the CSV output of nvidia-smi queries.  Pure.

Source: ``nvidia-smi --help-query-gpu``, ``--help-query-compute-apps``.  A value that the driver
does not know is ``[N/A]`` or ``[Not Supported]`` there, and None here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ringtasks.remote.answers import or_none, process_id, whole

__all__ = ["APPS_QUERY", "GPU_QUERY", "Gpu", "parse_gpus"]

_FORMAT = "--format=csv,noheader,nounits"
GPU_QUERY = (
    f"--query-gpu=index,uuid,name,memory.total,memory.used,utilization.gpu {_FORMAT}"  # MiB, %
)
APPS_QUERY = f"--query-compute-apps=gpu_uuid,pid,used_memory {_FORMAT}"
_MAX_INDEX = 4095


@dataclass(frozen=True)
class Gpu:
    """GPU of a host. Sizes are MiB, the utilization is a percentage; None: not known."""

    index: int
    uuid: str
    name: str
    memory_total_mib: int | None = None
    memory_used_mib: int | None = None
    utilization: int | None = None
    pids: tuple[int, ...] = ()
    """The processes on it that the driver shows; in a container often none."""
    job: str | None = None
    """The id of the job that has reserved it."""

    @property
    def is_free(self) -> bool:
        """True if no process is on it and no job has reserved it."""
        return not self.pids and self.job is None


def parse_gpus(gpus: str, apps: str = "", jobs: Mapping[int, str] | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs in the order of their indices; other lines than nvidia-smi's are ignored.

    :param gpus: the output of `GPU_QUERY`.
    :param apps: the output of `APPS_QUERY`.
    :param jobs: the ids of the jobs by the indices of their reserved GPUs.
    """
    pids: dict[str, list[int]] = {}
    for uuid, text, *_ in _rows(apps, 2):
        if (pid := or_none(process_id, text)) is not None:
            pids.setdefault(uuid, []).append(pid)
    found = []
    for text, uuid, *rest in _rows(gpus, 6):
        if (index := or_none(whole, text, at_most=_MAX_INDEX)) is not None:
            # A name may contain a comma: count the numbers from the end.
            total, used, utilization = map(_number, rest[-3:])
            gpu = Gpu(
                index=index,
                uuid=uuid,
                name=", ".join(rest[:-3]),
                memory_total_mib=total,
                memory_used_mib=used,
                utilization=utilization,
                pids=tuple(pids.get(uuid, ())),
                job=(jobs or {}).get(index),
            )
            found.append(gpu)
    return tuple(sorted(found, key=lambda gpu: gpu.index))


def _rows(printed: str, least: int) -> Iterable[list[str]]:
    for line in printed.split("\n"):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) >= least:
            yield cells


def _number(text: str) -> int | None:
    return or_none(whole, text.partition(" ")[0])
