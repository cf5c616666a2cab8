"""The ways to a host: pure."""

from __future__ import annotations

import pytest

from ringtasks.errors import InventoryError, UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.routes import ProcessProxy, Route, SocksProxy, only, routes_of

FULL = SSHConfig(
    "203.0.113.10",
    30178,
    tailscale_ip="100.64.0.1",
    cloudflare_tunnel="ssh.example.com",
    cloudflare_service_token_id="${ID}",
    cloudflare_service_token_secret="${SECRET}",
    name="box",
)


def test_routes_of_a_host_are_in_the_documented_order() -> None:
    routes = routes_of(FULL, {})

    assert [(route.name, route.address) for route in routes] == [
        ("tailscale", "100.64.0.1:22"),
        ("direct", "203.0.113.10:30178"),
        ("cloudflare", "ssh.example.com"),
    ]
    assert [route.is_costly for route in routes] == [False, False, True]


def test_host_without_an_address_of_a_kind_has_no_route_of_it() -> None:
    assert [r.name for r in routes_of(SSHConfig("", tailscale_ip="100.64.0.1"), {})] == [
        "tailscale"
    ]
    assert routes_of(SSHConfig(""), {}) == ()


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert Route("direct", "2001:db8::1", 22).address == "[2001:db8::1]:22"


@pytest.mark.parametrize(
    ("setting", "proxy"),
    [
        ("", None),
        ("nc", ProcessProxy(("tailscale", "nc", "100.64.0.1", "22"))),
        ("socks5://localhost:1055", SocksProxy("localhost", 1055)),
        ("socks5h://127.0.0.1:1055", SocksProxy("127.0.0.1", 1055)),
    ],
)
def test_tailscale_route_follows_the_environment(
    setting: str, proxy: ProcessProxy | SocksProxy | None
) -> None:
    tailscale, direct, _ = routes_of(FULL, {"RINGTASKS_TAILSCALE_PROXY": setting})

    assert tailscale.proxy == proxy
    assert direct.proxy is None


@pytest.mark.parametrize(
    "setting", ["http://h:1", "socks5://h", "socks5://:1", "h:1", "socks5://h:port"]
)
def test_invalid_proxy_setting_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="RINGTASKS_TAILSCALE_PROXY: expected"):
        routes_of(FULL, {"RINGTASKS_TAILSCALE_PROXY": setting})


def test_token_is_only_in_the_environment_of_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ID", "the-id")
    monkeypatch.setenv("SECRET", "the-secret")
    route = routes_of(FULL, {})[2]
    assert isinstance(route.proxy, ProcessProxy)

    environ = route.proxy.environment({"PATH": "/bin", "HOME": "/h", "TUNNEL_SERVICE_URL": "x"})

    assert environ == {
        "PATH": "/bin",
        "HOME": "/dev/null",
        "TUNNEL_SERVICE_TOKEN_ID": "the-id",
        "TUNNEL_SERVICE_TOKEN_SECRET": "the-secret",
    }
    assert route.proxy.argv == ("cloudflared", "access", "ssh", "--hostname", "ssh.example.com")
    assert route.proxy.log_flags == ("--logfile", "/dev/stderr", "--log-level", "error")
    assert "SECRET" not in repr(route)


def test_unset_token_variable_is_reported_on_use() -> None:
    proxy = routes_of(FULL, {})[2].proxy
    assert isinstance(proxy, ProcessProxy)

    with pytest.raises(InventoryError, match="ID is not set"):
        proxy.environment({})


def test_only_the_selected_route_is_returned() -> None:
    routes = routes_of(FULL, {})

    assert only(routes, "direct", "box") == (routes[1],)
    with pytest.raises(UsageError, match="unknown route 'pigeon': expected one of tailscale, "):
        only(routes, "pigeon", "box")
    with pytest.raises(UsageError, match="box: has no cloudflare route; its routes: tailscale"):
        only(routes[:1], "cloudflare", "box")
