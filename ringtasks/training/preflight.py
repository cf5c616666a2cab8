"""Check whether a host can take a run: one Check after the other, from a HostProbe.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ringtasks.common.program_name import as_typed
from ringtasks.common.text import size

from .probe import HostProbe
from .settings import Preflight

__all__ = ["Check", "checks"]

_GB = 10**9


class Check(NamedTuple):
    """One requirement; ``advice`` is the fix if the host does not meet it."""

    name: str
    is_passed: bool
    evidence: str
    advice: str = ""

    def __str__(self) -> str:
        if self.is_passed:
            return f"{self.name}: {self.evidence}"
        return f"{self.name}: {self.evidence}; {self.advice}"


def checks(
    probe: HostProbe,
    preflight: Preflight,
    *,
    gpus: int = 0,
    any_memory: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> tuple[Check, ...]:
    """Return the checks for a run that needs ``gpus`` GPUs, in the order of asking.

    If the host gave no answer at all, that is the only check.

    :param any_memory: memory in use by no visible process does not count.
    """
    if probe.error is not None:
        return (Check("answer", False, probe.error, f"try '{as_typed('check')}'"),)
    found: list[Check] = []
    expected = preflight.gpu_count
    if expected is None:
        told = (facts or {}).get("gpu_count")
        expected = told if isinstance(told, int) and not isinstance(told, bool) else None
    if gpus or expected:
        found.append(_driver(probe, preflight))
        if probe.driver == "ok":
            found += _gpus(probe, gpus, expected, any_memory=any_memory)
    found.append(_disk(probe, preflight))
    found.append(_clock(probe, preflight))
    if preflight.imports:
        found.append(_imports(probe, preflight))
    return tuple(found)


def _driver(probe: HostProbe, preflight: Preflight) -> Check:
    evidence = {
        "ok": "; ".join(filter(None, (f"answers, {len(probe.gpus)} GPUs", probe.gpu_message))),
        "none": "there is no nvidia-smi, amd-smi or rocm-smi",
        "hangs": f"gives no answer within {preflight.driver_timeout:g} s",
    }.get(probe.driver, probe.gpu_message or "gave no answer")
    advice = {
        "none": "install the driver, or set gpus to 0",
        "hangs": "a GPU hangs: reboot the host",
    }.get(probe.driver, "look at 'nvidia-smi' and 'dmesg' there")
    return Check("GPU driver", probe.driver == "ok", evidence, advice)


def _gpus(probe: HostProbe, needed: int, expected: int | None, *, any_memory: bool) -> list[Check]:
    seen = len(probe.gpus)
    wanted = max(needed, expected or 0)
    advice = "one may have fallen off the bus: reboot the host" if expected else "ask for fewer"
    found = [Check("GPU count", seen >= wanted, f"{seen}, expected {wanted}", advice)]
    if needed:
        in_use = [f"GPU {gpu.index}: {gpu.in_use}" for gpu in probe.gpus if gpu.in_use]
        held = f" ({'; '.join(in_use)})" if in_use else ""
        advice = f"{needed} needed: wait, or end what holds them"
        if any(gpu.in_use and not gpu.holder for gpu in probe.gpus):
            advice += f"; --gpus {needed}:any-memory takes GPUs whose memory is in use"
        free = sum(not (gpu.holder if any_memory else gpu.in_use) for gpu in probe.gpus)
        found.append(Check("GPUs free", free >= needed, f"{free} of {seen}{held}", advice))
    return found


def _disk(probe: HostProbe, preflight: Preflight) -> Check:
    if probe.disk_available is None:
        return Check("disk", not preflight.min_disk_gb, "df does not tell", "set min_disk_gb to 0")
    needed = preflight.min_disk_gb * _GB
    return Check(
        "disk",
        probe.disk_available >= needed,
        f"{size(probe.disk_available)} free, {size(needed)} needed",
        "make room, or lower min_disk_gb",
    )


def _clock(probe: HostProbe, preflight: Preflight) -> Check:
    if probe.clock_skew is None:
        return Check("clock", False, "date does not tell", "look at 'date +%s' there")
    ahead = "ahead" if probe.clock_skew >= 0 else "behind"
    evidence = "right" if not probe.clock_skew else f"{abs(probe.clock_skew):.0f} s {ahead}"
    return Check(
        "clock",
        abs(probe.clock_skew) <= preflight.max_clock_skew,
        evidence,
        "set it (chrony, timesyncd), or raise max_clock_skew",
    )


def _imports(probe: HostProbe, preflight: Preflight) -> Check:
    advice = "install it there, or name the right venv"
    if not probe.python:
        return Check("imports", False, "there is no python3", advice)
    if probe.missing:
        return Check("imports", False, "; ".join(probe.missing), advice)
    return Check("imports", True, ", ".join(preflight.imports))
