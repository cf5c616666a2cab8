"""A stand-in for nvidia-smi: prints what the real one prints in its CSV query form.

What there is to print stands in two files that a test writes through `Gpus`; the program looks at
them at each call.  ``nvidia-smi --help-query-gpu`` names the columns of the real one.
"""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["Gpus"]

_GPU_COLUMNS = (
    "index", "uuid", "name", "memory.total", "memory.used", "utilization.gpu",
    "temperature.gpu", "driver_version", "compute_mode",
)  # fmt: skip
_APP_COLUMNS = ("gpu_uuid", "pid", "used_memory", "process_name")

# Units and headers as nvidia-smi 580 prints them. A column it does not know is exit status 2.
_PROGRAM = r"""#!/bin/sh
here={folder}
[ -e "$here/hangs" ] && exec sleep 3600
[ -e "$here/fails" ] && {{
  echo >>"$here/failures"; cat "$here/fails"; exit "$(cat "$here/status")"
}}
table='' columns='' format=''
for option; do
  case $option in
    --query-gpu=*) table=gpus columns=${{option#*=}} ;;
    --query-compute-apps=*) table=apps columns=${{option#*=}} ;;
    --format=*) format=${{option#*=}} ;;
    *) echo "Invalid combination of input arguments."; exit 2 ;;
  esac
done
[ "$table" ] && case $format in csv*) ;; *) false ;; esac || {{
  echo 'No format specified. Please run "nvidia-smi -h" for help.'; exit 2
}}
awk -F '\t' -v columns="$columns" -v format="$format" '
  BEGIN {{
    n = split(columns, wanted, ",")
    has_header = format !~ /noheader/
    has_units = format !~ /nounits/
    units["memory.total"] = units["memory.used"] = units["used_memory"] = "MiB"
    units["utilization.gpu"] = "%"
  }}
  NR == 1 {{
    for (i = 1; i <= NF; i++) place[$i] = i
    for (i = 1; i <= n; i++) if (!(wanted[i] in place)) {{
      printf "Field \"%s\" is not a valid field to query.\n\n", wanted[i]; exit 2
    }}
    for (i = 1; has_header && i <= n; i++) {{
      unit = (wanted[i] in units && has_units) ? " [" units[wanted[i]] "]" : ""
      name = wanted[i] == "used_memory" ? "used_gpu_memory" : wanted[i]
      printf "%s%s%s", name, unit, i < n ? ", " : "\n"
    }}
    next
  }}
  {{
    for (i = 1; i <= n; i++) {{
      unit = (wanted[i] in units && has_units) ? " " units[wanted[i]] : ""
      printf "%s%s%s", $place[wanted[i]], unit, i < n ? ", " : "\n"
    }}
  }}' "$here/$table"
[ ! -e "$here/warns" ] || {{ cat "$here/warns"; exit 14; }}
"""


class Gpus:
    """The GPUs of a host, and who is on them.

    ``bin`` goes first on the far PATH, with ``make_sshd(environ={"PATH": f"{gpus.bin}:…"})``.
    """

    def __init__(self, folder: Path, count: int = 8, name: str = "NVIDIA H100 80GB HBM3") -> None:
        self.bin = folder / "bin"
        self._folder = folder
        self._gpus = [
            {
                "index": str(n),
                "uuid": f"GPU-{n:08x}-1234-5678-9abc-def012345678",
                "name": name,
                "memory.total": "81559",
                "memory.used": "1",
                "utilization.gpu": "0",
                "temperature.gpu": "31",
                "driver_version": "580.159.04",
                "compute_mode": "Default",
            }
            for n in range(count)
        ]
        self._apps: list[dict[str, str]] = []
        self.bin.mkdir(parents=True)
        program = self.bin / "nvidia-smi"
        program.write_text(_PROGRAM.format(folder=folder))
        program.chmod(0o755)
        self._write()

    def uuid(self, index: int) -> str:
        return self._gpus[index]["uuid"]

    def set(self, index: int, **columns: object) -> None:
        """``set(0, memory_used=4096, utilization_gpu=97)``: "_" stands for "." or "_"."""
        for key, value in columns.items():
            column = next(c for c in _GPU_COLUMNS if c.replace(".", "_") == key)
            self._gpus[index][column] = str(value)
        self._write()

    def occupy(self, index: int, pid: int, memory_mib: int = 1024, name: str = "python") -> None:
        """A process is on a GPU from now on."""
        app = (self.uuid(index), str(pid), str(memory_mib), name)
        self._apps.append(dict(zip(_APP_COLUMNS, app, strict=True)))
        self._write()

    def leave(self, pid: int) -> None:
        """A process is on no GPU any more."""
        self._apps = [app for app in self._apps if app["pid"] != str(pid)]
        self._write()

    def hang(self, *, now: bool = True) -> None:
        """From now on the driver does not answer, or does so again."""
        if now:
            (self._folder / "hangs").touch()
        else:
            (self._folder / "hangs").unlink(missing_ok=True)

    @property
    def failures(self) -> int:
        """Return the number of times that the program has failed."""
        file = self._folder / "failures"
        return len(file.read_text()) if file.exists() else 0

    def fail(self, message: str | None, status: int = 9) -> None:
        """From now on it says this and fails; None: it works again."""
        if message is None:
            (self._folder / "fails").unlink(missing_ok=True)
        else:
            (self._folder / "status").write_text(f"{status}")
            (self._folder / "fails").write_text(message + "\n")

    def warn(self, message: str) -> None:
        """From now on it says this after the rows and ends with status 14."""
        (self._folder / "warns").write_text(message + "\n")

    def _write(self) -> None:
        for file, columns, rows in (
            ("gpus", _GPU_COLUMNS, self._gpus),
            ("apps", _APP_COLUMNS, self._apps),
        ):
            new = self._folder / f"{file}.new"
            with new.open("w", newline="") as stream:
                table = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
                table.writeheader()
                table.writerows(rows)
            new.rename(self._folder / file)
