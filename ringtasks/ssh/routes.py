"""The routes to a host, in the order of their attempts: Tailscale, direct, Cloudflare.  Pure.

`KINDS` declares each kind of route, once.  A Route is an address and the carrier of its bytes;
`dialing` connects it.  A secret is in a route only as an environment variable of the proxy process,
never among its arguments.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import Reason, UsageError
from ringtasks.inventory.host_settings import SSHConfig, addresses, expand

__all__ = [
    "KINDS",
    "PROGRAMS",
    "ROUTE_NAMES",
    "ProcessProxy",
    "ProxyProgram",
    "Route",
    "RouteKind",
    "RouteRefusedError",
    "SocksProxy",
    "hop_route",
    "is_hop_known",
    "only",
    "routes_of",
    "tcp_routes",
]

TAILSCALE_PROXY_VARIABLE = "RINGTASKS_TAILSCALE_PROXY"


class ProcessProxy(NamedTuple):
    """A program whose stdin and stdout are the connection, like ssh's ProxyCommand."""

    argv: tuple[str, ...]
    variables: Mapping[str, str] = MappingProxyType({})
    """Variables for the program; a ``${VAR}`` in them is expanded when it starts, not before."""
    scrubbed_prefix: str | None = None
    """The prefix of inherited variables that the program does not get."""
    log_flags: tuple[str, ...] = ()
    """Arguments after ``argv`` that only a program which reads its stderr needs."""

    def __repr__(self) -> str:
        return f"ProcessProxy({self.argv!r})"  # the variables may hold secrets

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the program's whole environment.

        :raises InventoryError: a ``${VAR}`` is not set.
        """
        kept = {
            name: value
            for name, value in inherited.items()
            if not (self.scrubbed_prefix and name.startswith(self.scrubbed_prefix))
        }
        return kept | {name: expand(value) for name, value in self.variables.items()}


class SocksProxy(NamedTuple):
    """A SOCKS5 proxy (RFC 1928), which resolves the names."""

    host: str
    port: int


class Route(NamedTuple):
    """One route to a host: an address, and the proxy that carries its bytes (None: plain TCP)."""

    name: str
    host: str
    port: int
    proxy: ProcessProxy | SocksProxy | None = None
    family: str = "any"
    """``inet``, ``inet6`` or ``any`` (ssh_config(5), AddressFamily)."""
    source: str | None = None
    """The local address to connect from."""

    @property
    def address(self) -> str:
        """The text to display: ``203.0.113.10:22``, or the tunnel's name."""
        if not _BY_NAME[self.name].has_port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ssh_options(self) -> dict[str, str]:
        """The options by which ssh dials the same addresses, if it dials by itself."""
        options = {} if self.family == "any" else {"AddressFamily": self.family}
        return options if self.source is None else {**options, "BindAddress": self.source}

    @property
    def is_costly(self) -> bool:
        """True if it starts a process over the public network, and so waits for the others."""
        return _BY_NAME[self.name].is_costly


class ProxyProgram(NamedTuple):
    """A program that carries a route's bytes."""

    name: str
    version_flag: str
    needed_for: str
    if_missing: str
    """The advice if it is not installed."""


class RouteRefusedError(OSError):
    """A route cannot be used: ``reason``, and ``advice`` if it differs from the usual."""

    def __init__(self, reason: Reason, evidence: str, advice: str = "") -> None:
        super().__init__(evidence)
        self.reason, self.evidence, self.advice = reason, evidence, advice


class RouteKind(NamedTuple):
    """A kind of route.  Its settings are those of `SSHConfig` whose ``address_of`` names it."""

    name: str
    route: Callable[[SSHConfig, Mapping[str, str]], Route]
    """Returns the route of a host that has an address of this kind; takes the environment."""
    is_costly: bool = False
    """True if it starts a process over the public network, and so waits for the others."""
    has_port: bool = True
    """False if the host's port is not part of the address."""
    program: ProxyProgram | None = None


def routes_of(config: SSHConfig, environ: Mapping[str, str]) -> tuple[Route, ...]:
    """Return every route to the host, in the order of their attempts.

    :raises UsageError: ``RINGTASKS_TAILSCALE_PROXY`` is neither ``socks5://host:port`` nor ``nc``.
    """
    known = addresses(config)
    return tuple(kind.route(config, environ) for kind in KINDS if kind.name in known)


def tcp_routes(config: SSHConfig) -> tuple[Route, ...]:
    """Return the routes that any host of the same networks can take, without a proxy."""
    return tuple(route for route in routes_of(config, {}) if route.proxy is None)


def hop_route(jump: SSHConfig) -> Route:
    """Return the only route used to a jump host: an ``ssh`` cannot race several.

    It is one that has worked, else the direct one.
    """
    return _best_hop(jump)[1]


def is_hop_known(jump: SSHConfig) -> bool:
    """Return False if several routes lead to a jump host, and none of them has worked lately."""
    return _best_hop(jump)[0] == 0


def _best_hop(jump: SSHConfig) -> tuple[int, Route]:
    """Return the best route to a jump host and its rank: 0 if it is the only one, or has worked."""
    routes = tcp_routes(jump) or (Route("direct", jump.host, jump.port),)
    if len(routes) == 1:
        return 0, routes[0]
    from ringtasks.health.store import HealthStore  # few jump hosts have several routes

    known, now = HealthStore().get(jump.id).transports, time.time()

    def rank(name: str) -> int:
        health = known.get(name)
        if health is None or health.route_state_at(now) == "half_open":
            return 1
        return 0 if health.route_state_at(now) == "closed" and health.last_success else 2

    best = min(routes, key=lambda route: (rank(route.name), route.name != "direct"))
    return rank(best.name), best


def only(routes: tuple[Route, ...], name: str, host: str) -> tuple[Route, ...]:
    """Return the one route called ``name``.

    :raises UsageError: there is no such route, or this host does not have it.
    """
    if name not in ROUTE_NAMES:
        raise UsageError(f"unknown route {name!r}: expected one of {', '.join(ROUTE_NAMES)}")
    chosen = tuple(route for route in routes if route.name == name)
    if not chosen:
        had = ", ".join(route.name for route in routes) or "none"
        raise UsageError(f"{host}: has no {name} route; its routes: {had}")
    return chosen


def _direct(config: SSHConfig, _: Mapping[str, str]) -> Route:
    family, source = config.address_family, config.bind_address
    return Route("direct", config.host, config.port, family=family, source=source)


def _tailscale(config: SSHConfig, environ: Mapping[str, str]) -> Route:
    host, port = config.tailscale_ip or "", config.tailscale_port
    proxy = environ.get(TAILSCALE_PROXY_VARIABLE, "")
    if not proxy:
        return Route("tailscale", host, port)
    if proxy == "nc":
        return Route("tailscale", host, port, ProcessProxy(("tailscale", "nc", host, str(port))))
    return Route("tailscale", host, port, _socks(proxy))


def _socks(url: str) -> SocksProxy:
    expected = f"{TAILSCALE_PROXY_VARIABLE}: expected socks5://host:port or nc, got {url!r}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(expected) from None
    if parts.scheme not in ("socks5", "socks5h") or not host or not port:
        raise UsageError(expected)
    return SocksProxy(host, port)


def _cloudflare(config: SSHConfig, _: Mapping[str, str]) -> Route:
    hostname = config.cloudflare_tunnel or ""
    token_id = config.cloudflare_service_token_id or ""
    secret = config.cloudflare_service_token_secret or ""
    variables = {}
    if token_id or secret:
        variables = {
            "TUNNEL_SERVICE_TOKEN_ID": token_id,
            "TUNNEL_SERVICE_TOKEN_SECRET": secret,
            # If its service token is refused, cloudflared would start a browser log-in and wait for
            # minutes; if it cannot keep its files it gives up at once. Without a service token, an
            # earlier log-in of the user, kept under the real home, applies.
            "HOME": "/dev/null",
        }
    # --logfile: the only place where every version logs the reason of a failure. A level of
    # "debug" would write the secret there. Other TUNNEL_* could turn it into a TCP listener.
    argv = ("cloudflared", "access", "ssh", "--hostname", hostname)
    log = ("--logfile", "/dev/stderr", "--log-level", "error")
    return Route("cloudflare", hostname, 22, ProcessProxy(argv, variables, "TUNNEL_", log))


#: Every kind of route, in the order of the attempts.
KINDS = (
    RouteKind(
        "tailscale",
        _tailscale,
        program=ProxyProgram(
            "tailscale",
            "version",
            "hosts with a tailscale_ip",
            "install Tailscale, or unset RINGTASKS_TAILSCALE_PROXY",
        ),
    ),
    RouteKind("direct", _direct),
    RouteKind(
        "cloudflare",
        _cloudflare,
        is_costly=True,
        has_port=False,
        program=ProxyProgram(
            "cloudflared",
            "--version",
            "hosts with a cloudflare_tunnel",
            "install cloudflared, or remove cloudflare_tunnel from the host",
        ),
    ),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
ROUTE_NAMES = tuple(_BY_NAME)
#: The programs of all kinds of route.
PROGRAMS = tuple(kind.program for kind in KINDS if kind.program is not None)
