"""Stand-ins for amd-smi and rocm-smi: they print the documented JSON of several versions.

Source: the AMD SMI CLI documentation of ROCm 6.0, 6.1, 6.4 and 7.0 (``list``, ``static``,
``metric``, ``process``, each with ``--json``); ``rocm-smi --json`` of ROCm 5 and 6, whose documents
leave out the processes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["AMD_SMI_VERSIONS", "AmdSmi", "RocmSmi"]

#: Names of the shapes of amd-smi's documents.
AMD_SMI_VERSIONS = ("6.0", "6.1", "6.4", "7.0")

_AMD_SMI = """#!/bin/sh
case $* in *--json*) ;; *) echo "only --json" >&2; exit 2 ;; esac
[ ! -e {folder}/fails ] || {{ cat {folder}/fails; exit 20; }}
[ ! -e {folder}/warns ] || cat {folder}/warns
cat "{folder}/$1.json"
"""
_ROCM_SMI = """#!/bin/sh
echo 'WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status'
echo
case $* in
  *--showpidgpus*--json*) echo 'WARNING:root:No JSON data to report' >&2 ;;
  *--showpidgpus*) cat {folder}/pids ;;
  *) cat {folder}/cards.json ;;
esac
"""


def _program(folder: Path, name: str, text: str) -> Path:
    program = folder / "bin" / name
    program.parent.mkdir(parents=True)
    program.write_text(text.format(folder=folder))
    program.chmod(0o755)
    return program.parent


class AmdSmi:
    """``bin`` goes first on the PATH of the host; sizes are MiB."""

    def __init__(self, folder: Path, version: str, count: int = 4) -> None:
        self.bin = _program(folder, "amd-smi", _AMD_SMI)
        self._folder, self._version, self._count = folder, version, count
        self._is_first = version == "6.0"
        self._used = [284] * count
        self._pids: list[list[int]] = [[] for _ in range(count)]
        self._write()

    def uuid(self, index: int) -> str:
        return f"{index:02x}ff74a0-0000-1000-80f6-2cbbe9ed3c{index:02x}"

    def use(self, index: int, memory_mib: int, *pids: int) -> None:
        self._used[index], self._pids[index] = memory_mib, [*pids]
        self._write()

    def fail(self, message: str) -> None:
        (self._folder / "fails").write_text(message + "\n")

    def warn(self, message: str) -> None:
        """Print this before each document."""
        (self._folder / "warns").write_text(message + "\n")

    def replace(self, command: str, document: object) -> None:
        """Let one of the commands print another document, and end with 0."""
        (self._folder / f"{command}.json").write_text(json.dumps(document))

    def _write(self) -> None:
        numbers = range(self._count)
        documents: dict[str, list[dict[str, Any]]] = {
            "list": [
                {"gpu": n, "bdf": f"0000:{n:02x}:00.0", "uuid": self.uuid(n)} for n in numbers
            ],
            "static": [
                {"gpu": n, "asic": {"market_name": "AMD Instinct MI300X", "vendor_id": "0x1002"}}
                for n in numbers
            ],
            "metric": [self._metric(n) for n in numbers],
            "process": [
                {"gpu": n, "values" if self._is_first else "process_list": self._processes(n)}
                for n in numbers
            ],
        }
        for name, rows in documents.items():
            is_wrapped = self._version == "7.0" and name in ("static", "metric")
            document: Any = {"gpu_data": rows} if is_wrapped else rows
            indent = None if self._version == "6.4" else 4
            (self._folder / f"{name}.json").write_text(json.dumps(document, indent=indent))

    def _metric(self, n: int) -> dict[str, Any]:
        def sized(value: int, unit: str) -> Any:
            return {"value": value, "unit": unit} if self._version >= "6.4" else value

        return {
            "gpu": n,
            "usage": {
                "gfx_usage" if self._is_first else "gfx_activity": sized(7, "%"),
                "mm_activity": "N/A",
            },
            "mem_usage": {
                "total_vram": sized(196592, "MB"),
                "used_vram": sized(self._used[n], "MB"),
                "free_vram": sized(196592 - self._used[n], "MB"),
            },
        }

    def _processes(self, n: int) -> Any:
        rows: list[dict[str, Any]] = [
            {"process_info": {"name": 'py"thon, [x]', "pid": pid, "memory_usage": {}}}
            for pid in self._pids[n]
        ]
        none = "Not Found" if self._is_first else "No running processes detected"
        rows = rows or [{"process_info": none}]
        return rows[0] if self._is_first and len(rows) == 1 else rows


class RocmSmi:
    """``bin`` goes first on the PATH of the host."""

    def __init__(self, folder: Path, *, is_old: bool) -> None:
        self.bin = _program(folder, "rocm-smi", _ROCM_SMI)
        self._folder = folder
        series = "Card series" if is_old else "Card Series"
        cards = {
            f"card{n}": {
                "Unique ID": f"0x{n + 1:x}a27b4b5d9b64c1",
                "GPU use (%)": "3",
                "VRAM Total Memory (B)": str(64 * 1024**3),
                "VRAM Total Used Memory (B)": str((8 if n == 1 else 0) * 1024**3 + 10_850_304),
                series: "Instinct MI210",
                "Card vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
            }
            for n in range(3)
        }
        (folder / "cards.json").write_text(json.dumps(cards, indent=None if is_old else 4))
        self.tell_processes(
            "PID 4711 is using 1 DRM device(s):\n2 \nPID 4712 is using 0 DRM device(s)"
        )

    def tell_processes(self, text: str) -> None:
        """Print this as the table of the processes."""
        line = 80 * "="
        title = f"{' GPUs Indexed by PID ':=^80}"
        (self._folder / "pids").write_text(f"{title}\n{text}\n{line}\n{line}\n")
