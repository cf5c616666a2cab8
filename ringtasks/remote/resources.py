"""The resources of a host, parsed from the output of ``resources.sh``.  Pure.

A status and the choice of a host for a training run read the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ringtasks.common.text import printable

from .answers import decimal, disk_space, or_none, unix_time, whole
from .gpus import Gpu, parse_gpus, parse_tool

__all__ = ["Resources", "parse_resources"]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """GPUs, memory, disk, load and clock of a host. Sizes are bytes; None: not known."""

    gpus: tuple[Gpu, ...] = ()
    memory_total: int | None = None
    memory_available: int | None = None
    disk_total: int | None = None
    disk_available: int | None = None
    load: float | None = None
    """Processes that ran or were ready to run, averaged over the last minute."""
    cpus: int | None = None
    clock: float | None = None
    """Unix seconds."""
    up: float | None = None
    """Seconds since the start of the machine, or of its container."""
    gpu_message: str = ""
    """The warning or error of the program that reads the GPUs; empty: there is none."""

    @property
    def free_gpus(self) -> int:
        """The number of GPUs that are free (`Gpu.is_free`)."""
        return sum(gpu.is_free for gpu in self.gpus)

    @property
    def load_per_cpu(self) -> float | None:
        return None if self.load is None else self.load / (self.cpus or 1)


def parse_resources(lines: Mapping[str, Sequence[str]]) -> Resources:
    """Return the resources of the script's output, `lines_by_name`; malformed ones are left out."""

    def last(name: str) -> str:
        return ["", *lines.get(name, ())][-1].strip()

    gpus, apps, unread, tools, said, memory = (
        "\n".join(lines.get(name, ())) for name in ("gpu", "app", "apps", "tool", "said", "memory")
    )
    memory_total, memory_available = _memory(memory)
    disk_total, disk_available = disk_space(last("disk"))
    reserved = (line.split() for line in lines.get("reserved", ()))
    jobs = {pair[0]: printable(pair[1]) for pair in reserved if len(pair) == 2}
    load = [*last("load").lstrip("{ ").split(), ""]
    return Resources(
        gpus=parse_gpus(gpus, f"{apps}\n{unread}", jobs),
        memory_total=memory_total,
        memory_available=memory_available,
        disk_total=disk_total,
        disk_available=disk_available,
        load=or_none(decimal, load[0]),
        cpus=or_none(whole, last("cpus")),
        clock=or_none(unix_time, last("clock")),
        up=or_none(whole, last("up")),
        gpu_message=parse_tool(tools, said).message,
    )


def _memory(printed: str) -> tuple[int | None, int | None]:
    numbers = {
        name.strip(): int(value)
        for name, value in re.findall(r"^([^:\n]{1,80}):\s+([0-9]{1,15})\b", printed, re.MULTILINE)
    }
    if "memsize" not in numbers:
        return tuple(  # type: ignore[return-value]  # two of them
            numbers[name] * 1024 if name in numbers else None
            for name in ("MemTotal", "MemAvailable")
        )
    page = re.search(r"page size of ([0-9]{1,9}) bytes", printed)
    pages = sum(numbers.get(f"Pages {kind}", 0) for kind in ("free", "inactive", "speculative"))
    return numbers["memsize"], pages * int(page.group(1)) if page else None
