"""The pods of RunPod: ``runpodctl pod list``, else the REST API.

REST (docs.runpod.io, "List pods"): a list of pods with ``publicIp``, ``portMappings`` and
``costPerHr``.  ``runpodctl pod list`` of version 2 leaves the addresses out, ``runpodctl pod get
ID`` has them below ``ssh``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .http import get
from .model import Deadline, Listing, PrintedHost, SourceError
from .naming import named
from .programs import output_of
from .values import ListedItems, json_of, known_values, mappings, money, part, port, text

__all__ = ["API", "by_api", "by_program"]

API = "https://rest.runpod.io/v1"
_AT_ONCE = 8  # programs that ask for one pod each
_ID = r"[A-Za-z0-9]{1,64}"
_PROBLEM = "ringtasks: problem"  # the error of `pod get`


def by_api(url: str, deadline: Deadline) -> Listing:
    """Return the pods; those that do not run have no address.

    :raises SourceError: the API does not answer.
    """
    return _listing(mappings(json_of(get("runpod", f"{url}/pods", deadline)), "pods"))


def by_program(program: str, deadline: Deadline) -> Listing:
    """Return the pods that run.

    :raises SourceError: the program fails.
    """
    pods = mappings(json_of(output_of([program, "pod", "list"], deadline)), "pods")
    detailed = functools.partial(_detailed, program=program, deadline=deadline)
    with ThreadPoolExecutor(_AT_ONCE, "ringtasks-runpod") as threads:
        return _listing(pods._replace(found=list(threads.map(detailed, pods.found))))


def _detailed(pod: Mapping[str, Any], program: str, deadline: Deadline) -> Mapping[str, Any]:
    """Return the pod with its details if it runs and its address is not listed."""
    name = text(pod.get("id")) or ""
    if _address(pod) or not _runs(pod) or not re.fullmatch(_ID, name):
        return pod
    try:
        found = json_of(output_of([program, "pod", "get", name], deadline))
    except SourceError as error:
        return {**pod, _PROBLEM: str(error)}
    return {**pod, **found} if isinstance(found, Mapping) else pod


def _listing(pods: ListedItems) -> Listing:
    return named(pods, _host, "runpod", "pod")


def _host(pod: Mapping[str, Any]) -> PrintedHost:
    address = _address(pod) if _runs(pod) else {}
    status = text(pod.get("desiredStatus"))
    values = known_values(
        **address,
        gpu=_gpu(pod),
        gpu_count=_gpu_count(pod),
        price_per_hour=money(pod.get("costPerHr")),
        status=status,
        id=text(pod.get("id")),
    )
    why = pod.get(_PROBLEM, f"its status is {status}, and it has no public port for SSH")
    return PrintedHost(text(pod.get("name")) or "", values, "" if address else why)


def _runs(pod: Mapping[str, Any]) -> bool:
    return str(pod.get("desiredStatus", "RUNNING")).upper() == "RUNNING"


def _address(pod: Mapping[str, Any]) -> dict[str, Any]:
    mapped = part(pod, "portMappings").get("22")
    if pod.get("publicIp") and mapped:
        return {"ssh_host": pod["publicIp"], "ssh_port": port(mapped)}
    ssh = part(pod, "ssh")
    if ssh.get("ip") and ssh.get("port"):
        return {"ssh_host": ssh["ip"], "ssh_port": port(ssh["port"])}
    return {}


def _gpu(pod: Mapping[str, Any]) -> str | None:
    machine = part(pod, "machine")
    for kind in (part(pod, "gpu"), part(machine, "gpuType")):
        if name := kind.get("displayName") or kind.get("id"):
            return text(name)
    gpu = pod.get("gpu")
    listed = gpu if isinstance(gpu, str) else pod.get("gpuTypeId") or pod.get("gpuId")
    return text(listed) or text(machine.get("gpuTypeId"))


def _gpu_count(pod: Mapping[str, Any]) -> int | None:
    found = part(pod, "gpu").get("count", pod.get("gpuCount"))
    return found if isinstance(found, int) and found > 0 else None
