"""Stand-ins for amd-smi and rocm-smi: they print the documented JSON of several versions.

Source: the AMD SMI CLI documentation of ROCm 6.1, 6.4 and 7.0 (``list``, ``static``, ``metric``,
``process``, each with ``--json``); ``rocm-smi --json`` of ROCm 5 and 6.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["AMD_SMI_VERSIONS", "AmdSmi", "RocmSmi"]

#: Names of the shapes of amd-smi's documents.
AMD_SMI_VERSIONS = ("6.1", "6.4", "7.0")

_AMD_SMI = """#!/bin/sh
case $* in *--json*) ;; *) echo "only --json" >&2; exit 2 ;; esac
[ ! -e {folder}/fails ] || {{ cat {folder}/fails; exit 20; }}
cat "{folder}/$1.json"
"""
_ROCM_SMI = """#!/bin/sh
echo 'WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status'
echo
case $* in
  *--showpidgpus*) cat {folder}/pids.json ;;
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
            "process": [{"gpu": n, "process_list": self._processes(n)} for n in numbers],
        }
        for name, rows in documents.items():
            is_wrapped = self._version == "7.0" and name in ("static", "metric")
            document: Any = {"gpu_data": rows} if is_wrapped else rows
            indent = None if self._version == "6.4" else 4
            (self._folder / f"{name}.json").write_text(json.dumps(document, indent=indent))

    def _metric(self, n: int) -> dict[str, Any]:
        def sized(value: int, unit: str) -> Any:
            return value if self._version == "6.1" else {"value": value, "unit": unit}

        return {
            "gpu": n,
            "usage": {"gfx_activity": sized(7, "%"), "mm_activity": "N/A"},
            "mem_usage": {
                "total_vram": sized(196592, "MB"),
                "used_vram": sized(self._used[n], "MB"),
                "free_vram": sized(196592 - self._used[n], "MB"),
            },
        }

    def _processes(self, n: int) -> list[dict[str, Any]]:
        if not self._pids[n]:
            return [{"process_info": "No running processes detected"}]
        return [
            {"process_info": {"name": 'py"thon, [x]', "pid": pid, "memory_usage": {}}}
            for pid in self._pids[n]
        ]


class RocmSmi:
    """``bin`` goes first on the PATH of the host."""

    def __init__(self, folder: Path, *, is_old: bool) -> None:
        self.bin = _program(folder, "rocm-smi", _ROCM_SMI)
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
        pids = {"system": {"PID 4711 is using 1 DRM device(s)": "2"}}
        (folder / "pids.json").write_text(json.dumps(pids))
