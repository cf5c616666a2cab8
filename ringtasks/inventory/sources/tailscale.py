"""The machines of the tailnet: ``tailscale status --json``.

The shape is Go's ``ipnstate.Status`` in tailscale/tailscale; ``Peer`` is null if there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .model import Deadline, Listing, PrintedHost, SourceError
from .naming import plain_name
from .programs import output_of
from .values import json_of, known_values, mappings, text

__all__ = ["by_program"]

#: Systems that may run an sshd.
_SYSTEMS = ("linux", "macOS", "freebsd", "openbsd")


def by_program(program: str, deadline: Deadline) -> Listing:
    """Return the other machines of the tailnet, without phones and Windows machines.

    :raises SourceError: Tailscale does not run, or its answer is none.
    """
    status = json_of(output_of([program, "status", "--json"], deadline))
    if not isinstance(status, Mapping) or not isinstance(status.get("Peer") or {}, Mapping):
        raise SourceError("expected the output of 'tailscale status --json'")
    state = status.get("BackendState", "Running")
    if state != "Running":
        raise SourceError(f"Tailscale is {text(state)}: 'tailscale up' starts it")
    peers = mappings(list((status.get("Peer") or {}).values()), "machines")
    machines = (_machine(peer) for peer in peers.found if peer.get("OS") in _SYSTEMS)
    return Listing(tuple(machines), warnings=tuple(peers.warnings))


def _machine(peer: Mapping[str, Any]) -> PrintedHost:
    # HostName is the machine's own and need not be unique; DNSName is the name in the tailnet.
    full = text(peer.get("DNSName")) or text(peer.get("HostName")) or ""
    given = peer.get("TailscaleIPs")
    addresses = [ip for ip in given if isinstance(ip, str)] if isinstance(given, list) else []
    address = next((ip for ip in addresses if ":" not in ip), next(iter(addresses), None))
    is_online = peer.get("Online", True)
    values = known_values(
        tailscale_ip=address,
        status="online" if is_online else "offline",
        os=text(peer.get("OS")),
    )
    name = plain_name(full.partition(".")[0])
    return PrintedHost(name, values, "" if address else "no address")
