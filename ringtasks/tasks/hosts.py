"""``inv hosts``: the inventory, with routes and health."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from invoke import Context

from ringtasks.common.durations import ago
from ringtasks.errors import UsageError
from ringtasks.exit_status import combined_status
from ringtasks.output import display
from ringtasks.output.tables import table

from .core_flags import ended, failure_status
from .options import inventory_of, selected, task

if TYPE_CHECKING:
    from ringtasks.health.model import SSHHealth
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.inventory.model import HostConfig

__all__ = ["hosts"]

_SHOWN_FACTS = ("role", "gpu", "status")
#: Hosts for which ``ssh`` is started, a few milliseconds each, to learn their addresses.
_MOST_ASKED = 64
#: Fields of the health; None: the host was not tried yet.
_HEALTH = ("last_success", "last_failure", "consecutive_failures", "last_reason")


@task(
    connects=False,
    name="hosts",
    help={
        "refresh": "ask the sources of the inventory now (docs/inventory.md)",
    },
)
def hosts(
    c: Context,
    host: str = "@all,@embedded",
    json: bool = False,
    inventory: str | None = None,
    refresh: bool = False,
) -> list[dict[str, Any]]:
    """Show the hosts with their routes and health."""
    from ringtasks.health.store import HealthStore
    from ringtasks.inventory.host_settings import config_or_fault
    from ringtasks.ssh.master.client_links import linked_hosts

    if refresh:
        inventory_of(c, inventory, newer_than=time.time())
    known = HealthStore().load()
    rows = []
    written = []
    statuses = []
    chosen = selected(c, host, inventory)
    configs = [config_or_fault(found) for found in chosen]
    for found, config in zip(chosen, _as_ssh_dials(configs), strict=True):
        rows.append(_row(found, config, known.get(found.name)))
        written.append([_written(found, fact) for fact in _SHOWN_FACTS])
        statuses.append(0 if config.fault is None else failure_status(config))
    if linked := linked_hosts(configs):
        from ringtasks.ssh.master.lookup import drop_stale_links  # no other part of it is needed

        drop_stale_links(linked)
    _show(rows, written, json=json)
    return ended(c, rows, combined_status(statuses))


def _as_ssh_dials(configs: list[SSHConfig]) -> list[SSHConfig]:
    """Return the hosts with the addresses of ssh's files, as far as ``Host`` lines name them."""
    from ringtasks.ssh.settings_files import mentions, read_files

    if not mentions(("hostname", "port"), None):
        return configs
    from ringtasks.ssh.plain_hosts import named_in

    named = named_in({config.name_in_ssh_config for config in configs}, read_files(None))
    chosen = [config.name_in_ssh_config in named and bool(config.host) for config in configs]
    if not 0 < sum(chosen) <= _MOST_ASKED:
        return configs
    from ringtasks.ssh.evaluated_config import settings_of
    from ringtasks.ssh.merged_settings import with_ssh_settings

    def asked(config: SSHConfig) -> SSHConfig:
        try:
            return with_ssh_settings(config, settings_of(config))
        except UsageError:  # ssh cannot use its files, which `inv check` tells
            return config

    return [asked(c) if is_named else c for c, is_named in zip(configs, chosen, strict=True)]


def _row(host: HostConfig, config: SSHConfig, health: SSHHealth | None) -> dict[str, Any]:
    from ringtasks.ssh.routes import routes_of

    routes = routes_of(config, os.environ)
    return {
        "host_id": host.name,
        "routes": [{"route": route.name, "address": route.address} for route in routes],
        "circuit_state": health.circuit_state if health else "closed",
        "success_rate": health.success_rate if health else None,
        **{name: getattr(health, name, None) for name in _HEALTH},
        "groups": list(host.groups),
        "facts": dict(host.facts),
        **({} if config.fault is None else {"error": config.fault}),
        **({"absence": host.absence} if host.absence else {}),
    }


def _written(host: HostConfig, fact: str) -> str:
    """Return a fact as it is written: YAML reads ``off`` as false."""
    value = host.facts.get(fact)
    if value is None:
        return ""
    return ", ".join(host.texts.get(fact, (str(value),)))


def _show(rows: list[dict[str, Any]], written: list[list[str]], *, json: bool) -> None:
    if json:
        display.json_lines(rows)
        return
    table(
        ["host", "routes", "health", *_SHOWN_FACTS],
        [
            (
                row["host_id"],
                ", ".join(f"{route['route']} {route['address']}" for route in row["routes"])
                or ("" if "error" in row else "embedded"),
                "cannot be used" if "error" in row else _health(row),
                *facts,
            )
            for row, facts in zip(rows, written, strict=True)
        ],
        optional=["role", "status"],
    )
    for row in rows:
        if "error" in row:
            display.say(row["error"])
        elif "absence" in row:
            display.say(f"{row['host_id']}: {row['absence']}")


def _health(row: dict[str, Any]) -> str:
    """Return how the last attempts ended: a rate over years hides that a host has just died."""
    if row["success_rate"] is None:
        return "not tried yet"
    failures, now = row["consecutive_failures"], time.time()
    if failures == 0:
        return f"reached {ago(row['last_success'], now)}"
    state = "" if row["circuit_state"] == "closed" else f", circuit {row['circuit_state']}"
    return f"failed {failures}x, {ago(row['last_failure'], now)}{state}"
