"""The instances of Lambda: its HTTP API (docs.lambda.ai, "List running instances")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .http import get
from .model import Deadline, Listing, PrintedHost, SourceError
from .naming import named
from .values import json_of, known_values, mappings, money, part, text

__all__ = ["API", "by_api"]

API = "https://cloud.lambda.ai/api/v1"
_DOWN = ("terminated", "terminating", "preempted")


def by_api(url: str, deadline: Deadline) -> Listing:
    """Return the instances.

    :raises SourceError: the API does not answer.
    """
    answer = json_of(get("lambda", f"{url}/instances", deadline))
    if not isinstance(answer, Mapping):
        raise SourceError("expected a mapping with 'data'")
    instances = mappings(answer.get("data"), "instances")
    return named(instances, _host, "lambda", "instance")


def _host(instance: Mapping[str, Any]) -> PrintedHost:
    kind, region = part(instance, "instance_type"), part(instance, "region")
    cents, status = money(kind.get("price_cents_per_hour")), text(instance.get("status"))
    address = None if status in _DOWN else instance.get("ip")
    values = known_values(
        ssh_host=address,
        gpu=text(kind.get("gpu_description")) or text(kind.get("description")),
        gpu_count=part(kind, "specs").get("gpus"),
        price_per_hour=None if cents is None else cents / 100,
        status=status,
        region=text(region.get("name")),
        id=text(instance.get("id")),
    )
    absence = "" if address else f"its status is {status}"
    return PrintedHost(text(instance.get("name")) or "", values, absence)
