"""The GPUs of a host, parsed from the output of ``gpus.sh``.  Pure.

A value that the driver does not know is ``[N/A]`` or ``[Not Supported]`` there, and None here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.text import printable

from .answers import or_none, process_id, whole

__all__ = ["HIDDEN_MIB", "HIDDEN_PERCENT", "Gpu", "GpuTool", "parse_gpus", "parse_tool"]

#: The memory that may be in use on a free GPU without a visible process, the larger of the two: the
#: driver's own, which is some hundred MiB on large GPUs.  More is that of a process that is not
#: seen, in another container for example.
HIDDEN_PERCENT, HIDDEN_MIB = 5, 500
#: Lines of a tool's message that are shown.
_MAX_LINES = 20
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
    are_pids_known: bool = True
    """False: the driver did not show its processes, so it may be in use."""
    fault: str = ""
    """The driver's words in place of the memory in use, such as ``[GPU requires reset]``."""

    @property
    def is_free(self) -> bool:
        """True if no process is on it, no job has reserved it, and no hidden memory is in use."""
        return not self.in_use

    @property
    def holder(self) -> str:
        """The job or the processes that use it, or may do so; empty: none."""
        if self.job is not None:
            return f"job {self.job}"
        if self.pids:
            return f"process {', '.join(map(str, self.pids))}"
        return "" if self.are_pids_known else "processes that cannot be read"

    @property
    def in_use(self) -> str:
        """The reason why it is not free; empty: it is."""
        if self.holder:
            return self.holder
        if self.fault:
            return f"its memory in use is {self.fault}"
        used, total = self.memory_used_mib or 0, self.memory_total_mib or 0
        if used > max(HIDDEN_MIB, total * HIDDEN_PERCENT / 100):
            return f"{used} MiB in use by no visible process"
        return ""


class GpuTool(NamedTuple):
    """The program that read the GPUs, and its outcome."""

    name: str = "none"
    status: str = "none"
    """Its exit status; ``hangs``; or ``none``: there is no such program."""
    said: str = ""
    """Its output beside the rows."""

    @property
    def message(self) -> str:
        """A warning or an error of the program; empty: there is none."""
        if self.status in ("0", "none"):
            return self.said
        if self.status == "hangs":
            return f"{self.name} does not answer: a GPU hangs; reboot the host"
        return f"{self.name} ended with exit status {self.status}: {self.said or 'no output'}"


def parse_tool(tools: str, said: str) -> GpuTool:
    """Return the last tool of the ``NAME STATUS`` lines, with what was printed beside rows."""
    words = [line.split() for line in tools.split("\n")]
    name, status = next((pair for pair in reversed(words) if len(pair) == 2), ["none", "none"])
    lines = [printable(line.strip()) for line in said.split("\n") if line.strip()]
    return GpuTool(printable(name), printable(status), "; ".join(lines[:_MAX_LINES]))


def parse_gpus(gpus: str, apps: str = "", jobs: Mapping[str, str] | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs in the order of their indices; other lines are ignored.

    :param gpus: rows ``INDEX, UUID, NAME, TOTAL, USED, UTILIZATION``; sizes in MiB.
    :param apps: rows ``UUID, PID, USED`` of the processes; ``unknown``: they could not be read.
    :param jobs: the ids of the jobs by the uuids of their reserved GPUs.
    """
    are_pids_known = "unknown" not in apps.split("\n")
    pids: dict[str, list[int]] = {}
    for uuid, text, *_ in _rows(apps, 2):
        if (pid := or_none(process_id, text)) is not None:
            pids.setdefault(uuid, []).append(pid)
    found = []
    for text, uuid, *rest in _rows(gpus, 6):
        if (index := or_none(whole, text, at_most=_MAX_INDEX)) is not None:
            # A name may contain a comma: count the numbers from the end.
            total, used, utilization = map(_number, rest[-3:])
            fault = (rest[-2] or "unknown") if used is None and _is_fault(rest[-2], total) else ""
            gpu = Gpu(
                index=index,
                uuid=uuid,
                name=", ".join(rest[:-3]),
                memory_total_mib=total,
                memory_used_mib=used,
                utilization=utilization,
                pids=tuple(pids.get(uuid, ())),
                job=(jobs or {}).get(uuid),
                are_pids_known=are_pids_known,
                fault=printable(fault),
            )
            found.append(gpu)
    return tuple(sorted(found, key=lambda gpu: gpu.index))


def _rows(printed: str, least: int) -> Iterable[list[str]]:
    for line in printed.split("\n"):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) >= least:
            yield cells


def _is_fault(used: str, total: int | None) -> bool:
    """Return False for a GPU without memory of its own, of which the total is not known, either."""
    return total is not None or used not in ("[N/A]", "[Not Supported]")


def _number(text: str) -> int | None:
    return or_none(whole, text.partition(" ")[0])
