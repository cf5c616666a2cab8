"""The fallback helper against servers that misbehave on purpose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from ringtasks.errors import Reason, RouteError, UnreachableError
from ringtasks.ssh.dialing import dial
from ringtasks.ssh.race import HEAD_START
from ringtasks.ssh.routes import ProcessProxy, Route, SocksProxy
from tests.support.cloudflared import Cloudflared
from tests.support.faulty import (
    Blackhole,
    Chatty,
    ClosingBeforeBanner,
    Refusing,
    Resetting,
    Silent,
    Socks5,
    Wire,
)
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

FAULTS: dict[Reason, Callable[[], AbstractContextManager[Any]]] = {
    Reason.REFUSED: Refusing,
    Reason.TIMED_OUT: Blackhole,
    Reason.SILENT: Silent,
    Reason.RESET: Resetting,
    Reason.NOT_SSH: Chatty,
}


def route_to(server: Any, name: str = "direct") -> Route:
    return Route(name, server.address, server.port)


@pytest.mark.parametrize("reason", FAULTS, ids=str)
def test_each_dialling_failure_has_its_reason(reason: Reason) -> None:
    with FAULTS[reason]() as faulty, pytest.raises(UnreachableError) as caught:
        dial("box", [route_to(faulty)], 0.6)

    (failure,) = caught.value.failures
    assert failure.reason is reason
    assert failure.address == f"{faulty.address}:{faulty.port}"
    assert str(reason) in str(caught.value)


def test_local_address_of_another_family_is_named_as_the_reason() -> None:
    with Refusing() as server, pytest.raises(UnreachableError) as caught:
        dial("box", [route_to(server)._replace(source="::1")], 5)

    (failure,) = caught.value.failures
    assert failure.reason is Reason.NO_ROUTE
    assert "no address of the family of ::1" in failure.evidence
    assert "BindAddress" in failure.advice


def test_a_server_that_closes_at_once_counts_as_a_reset() -> None:
    with ClosingBeforeBanner() as faulty, pytest.raises(UnreachableError) as caught:
        dial("box", [route_to(faulty)], 5)

    assert caught.value.failures[0].reason is Reason.RESET


def test_unresolvable_host_name_is_reported() -> None:
    with pytest.raises(UnreachableError) as caught:
        dial("box", [Route("direct", "no-such-host.invalid", 22)], 5)

    assert caught.value.failures[0].reason is Reason.NAME_NOT_FOUND


@pytest.mark.parametrize("fault", [Refusing, Blackhole, Silent, Resetting, Chatty])
def test_next_route_is_used_if_one_fails(
    fault: Callable[[], AbstractContextManager[Any]], sshd: Sshd
) -> None:
    with fault() as faulty:
        dialled = dial("box", [route_to(faulty, "tailscale"), route_to(sshd)], 5)

    assert dialled.route.name == "direct"
    assert [failure.route for failure in dialled.failures] == ["tailscale"]
    assert dialled.stream.recv(4) == b"SSH-"
    dialled.stream.close()


def test_route_that_answers_within_its_head_start_is_not_raced(sshd: Sshd) -> None:
    with Silent() as never_tried:
        dialled = dial("box", [route_to(sshd, "tailscale"), route_to(never_tried)], 5)

        assert never_tried.connections == 0
    assert dialled.failures == ()
    dialled.stream.close()


def test_a_slow_route_is_overtaken_after_its_head_start(sshd: Sshd) -> None:
    with Wire(sshd.address, sshd.port, delay=30) as slow:
        dialled = dial("box", [route_to(slow, "tailscale"), route_to(sshd)], 10)

    (failure,) = dialled.failures
    assert failure.reason is Reason.OVERTAKEN
    assert failure.elapsed >= HEAD_START
    dialled.stream.close()


def test_failed_routes_are_listed_in_the_order_tried() -> None:
    with Blackhole() as blackhole, Silent() as silent, Refusing() as refusing:
        routes = [
            route_to(blackhole, "tailscale"),
            route_to(silent, "direct"),
            route_to(refusing, "cloudflare"),
        ]
        started = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            dial("box", routes, 1.6)
        elapsed = time.monotonic() - started

    found = [(failure.route, failure.reason) for failure in caught.value.failures]
    assert found == [
        ("tailscale", Reason.TIMED_OUT),
        ("direct", Reason.SILENT),
        ("cloudflare", Reason.REFUSED),
    ]
    assert 1.5 <= elapsed < 10  # it waited for its limit, and not for the system's


def test_no_thread_or_socket_is_left_behind(sshd: Sshd) -> None:
    before = set(threading.enumerate())
    with Blackhole() as blackhole, Silent() as silent:
        routes = [route_to(blackhole, "tailscale"), route_to(silent), route_to(sshd)]
        dial("box", routes, 5).stream.close()

        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("ringtasks-"):
                thread.join(2)
        left = set(threading.enumerate()) - before

    assert not [thread for thread in left if thread.name.startswith("ringtasks-dial")]


def test_lines_before_the_banner_are_allowed(sshd: Sshd) -> None:
    class Preface(Silent):
        def serve(self, connection: Any) -> None:
            connection.sendall(b"Maintenance at noon\r\nSSH-2.0-test\r\n")

    with Preface() as server:
        dialled = dial("box", [route_to(server)], 5)

    assert dialled.stream.recv(100) == b"Maintenance at noon\r\nSSH-2.0-test\r\n"
    dialled.stream.close()


def test_a_socks_proxy_carries_the_tailscale_route(sshd: Sshd) -> None:
    with Socks5() as proxy:
        via = SocksProxy(proxy.address, proxy.port)
        route = Route("tailscale", sshd.address, sshd.port, via)
        dialled = dial("box", [route], 5)

        assert dialled.stream.recv(4) == b"SSH-"
        assert proxy.connections == 1
        dialled.stream.close()


def test_unreachable_socks_proxy_is_reported(sshd: Sshd) -> None:
    with Refusing() as proxy, pytest.raises(UnreachableError) as caught:
        via = SocksProxy(proxy.address, proxy.port)
        dial("box", [Route("tailscale", sshd.address, sshd.port, via)], 5)

    (failure,) = caught.value.failures
    assert failure.reason is Reason.PROXY_FAILED
    assert "RINGTASKS_TAILSCALE_PROXY" in failure.advice


def test_a_missing_proxy_program_is_named_with_its_route() -> None:
    route = Route("cloudflare", "ssh.example.com", 22, ProcessProxy(("no-such-program",)))

    with pytest.raises(UnreachableError) as caught:
        dial("box", [route], 5)

    (failure,) = caught.value.failures
    assert (failure.route, failure.reason) == ("cloudflare", Reason.PROXY_MISSING)
    assert "no-such-program is not on PATH" in str(failure)


@pytest.mark.parametrize("mode", ["bad_token", "bad_handshake", "refused"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_proxy_failure_reason_is_found_in_the_output_of_every_version(
    cloudflared: Cloudflared, sshd: Sshd, mode: str, old: bool
) -> None:
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port, mode=mode, old=old)

    failure = failure_of(cloudflare_route("ssh.example.com"))

    assert failure.reason is Reason.PROXY_FAILED
    expected = {"bad_token": "app token", "bad_handshake": "bad handshake", "refused": "refused"}
    assert expected[mode] in failure.evidence
    eventually(lambda: cloudflared.running() == [])


def test_hanging_proxy_is_ended_with_its_process_group(
    cloudflared: Cloudflared, sshd: Sshd
) -> None:
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port, mode="silent")

    failure = failure_of(cloudflare_route("ssh.example.com"), timeout=1.5)

    assert failure.reason is Reason.TIMED_OUT
    assert len(cloudflared.starts) == 1
    eventually(lambda: cloudflared.running() == [])


def test_costly_route_is_not_started_if_a_cheap_one_answers(
    cloudflared: Cloudflared, sshd: Sshd
) -> None:
    cloudflared.serve("ssh.example.com", sshd.address, sshd.port)

    dialled = dial("box", [route_to(sshd), cloudflare_route("ssh.example.com")], 5)

    assert dialled.route.name == "direct"
    assert cloudflared.starts == []
    dialled.stream.close()


def cloudflare_route(hostname: str) -> Route:
    argv = ("cloudflared", "access", "ssh", "--hostname", hostname, "--logfile", "/dev/stderr")
    return Route("cloudflare", hostname, 22, ProcessProxy(argv))


def failure_of(route: Route, timeout: float = 10) -> RouteError:
    with pytest.raises(UnreachableError) as caught:
        dial("box", [route], timeout)
    (failure,) = caught.value.failures
    return failure


def expect_silence(server: Silent) -> None:
    with pytest.raises(UnreachableError):
        dial("box", [route_to(server)], timeout=1)


def test_single_address_is_dialled_without_a_thread() -> None:
    before = set(threading.enumerate())
    with Silent() as silent:
        dialling = threading.Thread(target=expect_silence, args=(silent,))
        dialling.start()
        while silent.connections == 0 and dialling.is_alive():
            time.sleep(0.01)
        new = set(threading.enumerate()) - before
        dialling.join()

    assert not [thread for thread in new if thread.name.startswith("ringtasks-dial")]


def test_host_name_is_resolved_in_a_thread_to_keep_the_timeout() -> None:
    with Silent() as silent, pytest.raises(UnreachableError) as caught:
        dial("box", [Route("direct", "127.1", silent.port)], timeout=0.3)

    (failure,) = caught.value.failures
    assert failure.reason is Reason.SILENT


def test_overloaded_server_is_reported() -> None:
    class Overrun(Chatty):
        def serve(self, connection: Any) -> None:
            connection.sendall(b"Exceeded MaxStartups\r\n")
            connection.close()

    with Overrun() as server, pytest.raises(UnreachableError) as caught:
        dial("box", [route_to(server)], timeout=5)

    (failure,) = caught.value.failures
    assert failure.reason is Reason.OVERLOADED
    assert "MaxStartups" in str(failure)
