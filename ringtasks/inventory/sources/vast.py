"""The instances of Vast.ai: ``vastai show instances --raw``, else the HTTP API.

API (docs.vast.ai, "show instances (v1)"): pages of at most 25 instances.  An instance with a direct
port has it in ``ports["22/tcp"]``; else ``ssh_host`` and ``ssh_port`` are those of a proxy, whose
port is one higher for an instance that runs Jupyter (``vast.py`` of vast-ai/vast-cli, ``ssh-url``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from .http import get
from .model import Deadline, Listing, PrintedHost, SourceError
from .naming import named
from .programs import output_of
from .values import ListedItems, json_of, known_values, mappings, money, part, port, text

__all__ = ["API", "by_api", "by_program"]

API = "https://console.vast.ai/api/v1"
_PAGE = 25
#: Values of ``actual_status`` for an instance that takes no log-in.
_DOWN = ("stopped", "exited", "offline", "frozen")


def by_api(url: str, deadline: Deadline) -> Listing:
    """Return the instances that are rented.

    :raises SourceError: the API does not answer.
    """
    return _listing(_pages(url, deadline))


def by_program(program: str, deadline: Deadline) -> Listing:
    """Return the instances that are rented.

    :raises SourceError: the program fails.
    """
    printed = json_of(output_of([program, "show", "instances", "--raw"], deadline))
    return _listing(mappings(_instances(printed), "instances"))


def _listing(instances: ListedItems) -> Listing:
    return named(instances, _host, "vast", "instance")


def _pages(api: str, deadline: Deadline) -> ListedItems:
    all_pages = ListedItems([], [])
    query: dict[str, object] = {
        "select_filters": "{}",
        "order_by": '[{"col": "id", "dir": "asc"}]',
        "limit": _PAGE,
    }
    while True:
        page = json_of(get("vast", f"{api}/instances/?{urlencode(query)}", deadline))
        entries = mappings(_instances(page), "instances")
        all_pages.found.extend(entries.found)
        all_pages.warnings.extend(entries.warnings)
        after = page.get("next_token") if isinstance(page, Mapping) else None
        if not isinstance(after, str) or not after:
            return all_pages
        if after == query.get("after_token"):
            raise SourceError("the API answers the same page again")
        query["after_token"] = after


def _instances(printed: Any) -> Any:
    return printed.get("instances") if isinstance(printed, Mapping) else printed


def _host(instance: Mapping[str, Any]) -> PrintedHost:
    status = text(instance.get("actual_status"))
    address = {} if status in _DOWN else _address(instance)
    values = known_values(
        **address,
        gpu=text(instance.get("gpu_name")),
        gpu_count=instance.get("num_gpus"),
        price_per_hour=money(instance.get("dph_total")),
        status=status,
        id=text(instance.get("id")),
    )
    absence = "" if address else f"its status is {status or 'not known yet'}"
    return PrintedHost(text(instance.get("label")) or "", values, absence)


def _address(instance: Mapping[str, Any]) -> dict[str, Any]:
    mapped, public = part(instance, "ports").get("22/tcp"), instance.get("public_ipaddr")
    if isinstance(mapped, list) and mapped and isinstance(mapped[0], Mapping) and public:
        return {"ssh_host": _trimmed(public), "ssh_port": port(mapped[0].get("HostPort"))}
    proxy, number = instance.get("ssh_host"), port(instance.get("ssh_port"))
    if not proxy or not number:
        return {}
    if "jupyter" in str(instance.get("image_runtype")) and isinstance(number, int):
        number += 1
    return {"ssh_host": _trimmed(proxy), "ssh_port": number}


def _trimmed(value: Any) -> Any:
    return value.strip(" ") if isinstance(value, str) else value
