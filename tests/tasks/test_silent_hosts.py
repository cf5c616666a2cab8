"""Hosts that do not answer: a person who waits is told so, once, and a program is not."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.common import interruption
from ringtasks.common.pending_answers import PendingAnswer, awaiting, watched
from ringtasks.output.display import silence_notice
from ringtasks.ssh.dialing import dial
from ringtasks.ssh.routes import Route
from tests.support.faulty import Answering, Silent
from tests.support.fixtures import Inv, WriteHosts
from tests.support.sshd import Sshd
from tests.support.terminal import at_terminal
from tests.support.waiting import eventually


def test_notice_names_the_route_that_has_not_answered(own_server: Sshd) -> None:
    told: list[str] = []
    own_server.freeze()

    def tell(seconds: float, late: Sequence[PendingAnswer]) -> None:
        told.append(silence_notice(seconds, late))
        own_server.thaw()

    with watched(0.1, tell):
        dial("box", [Route("direct", own_server.address, own_server.port)], 30).stream.close()

    place = f"direct ({own_server.address}:{own_server.port})"
    assert told[0].startswith(f"box: no answer for 0.1 s over {place}; waiting ")


def test_notice_of_a_host_that_no_longer_answers_over_its_open_connection(
    own_server: Sshd, client_key: Path
) -> None:
    told: list[str] = []

    def tell(seconds: float, late: Sequence[PendingAnswer]) -> None:
        told.append(silence_notice(seconds, late))
        own_server.thaw()

    config = SSHConfig(own_server.address, own_server.port, own_server.user, str(client_key))
    with SSHClient(config) as client:
        assert client.run("true")
        own_server.freeze()
        with watched(0.1, tell):
            assert client.run("true", timeout=30)

    assert told == [f"{config.id}: no answer for 0.1 s over the open connection (direct)"]


@pytest.mark.parametrize("is_shared", [True, False], ids=["master", "in-process"])
@pytest.mark.parametrize(
    "banner", [b"SSH-2.0-OpenSSH_9.9\r\n", b"SSH-2.0-Open"], ids=["whole", "half"]
)
def test_notice_of_a_host_that_is_silent_after_its_banner(is_shared: bool, banner: bytes) -> None:
    told: list[str] = []
    with Answering(banner, patience=30) as server:

        def tell(seconds: float, late: Sequence[PendingAnswer]) -> None:
            told.append(silence_notice(seconds, late))
            server.close()

        config = SSHConfig(server.address, server.port, "root", use_control_master=is_shared)
        with SSHClient(config) as client, watched(0.1, tell):
            assert not client.run("true")

    place = f"direct ({server.address}:{server.port})"
    place += " after its SSH banner" * banner.endswith(b"\n")
    assert told[0].startswith(f"{config.id}: no answer for 0.1 s over {place}; waiting ")


def test_no_notice_while_a_person_answers() -> None:
    told: list[str] = []
    with (
        watched(0.0, lambda _, late: told.extend(each.host for each in late)),
        awaiting("asking", str, None, lambda: True),
        awaiting("silent", str),
    ):
        while not told:
            pass

    assert told == ["silent"]


def test_several_silent_hosts_are_told_in_one_line() -> None:
    late = [PendingAnswer(f"box{number}", str, None) for number in (1, 2, 3)]

    assert silence_notice(2, late) == "no answer for 2 s from box[1-3] (3)"


def test_host_is_told_once() -> None:
    told: list[str] = []
    with watched(0.0, lambda _, late: told.extend(each.host for each in late)):
        for _ in range(2):
            with awaiting("a", str), awaiting("b", str):
                while len(set(told)) < 2:
                    pass

    assert sorted(told) == ["a", "b"]


def test_no_notice_follows_the_line_about_a_signal() -> None:
    told: list[str] = []
    looks: list[str] = []

    def is_expected() -> bool:
        looks.append("look")
        return False

    with (
        interruption.guarded(),
        interruption.ending(60, ""),  # else a busy machine's process would exit
        watched(0.0, lambda _, late: told.extend(each.host for each in late)),
    ):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with awaiting("one", str, None, is_expected):
            eventually(lambda: looks)
        with awaiting("two", str, None, is_expected):
            eventually(lambda: looks[1:])

    assert told == []


def test_person_at_a_terminal_is_told_after_two_seconds_and_nothing_with_json(
    write_hosts: WriteHosts, inv: Inv, tmp_path: Path
) -> None:
    with Silent() as silent, ThreadPoolExecutor() as pool:
        place = {"ssh_host": silent.address, "ssh_port": silent.port, "connect_timeout": 3.2}
        write_hosts(box=place)
        arguments = ["run", "--host", "box", "--cmd", "true"]
        text = pool.submit(at_terminal, arguments, {}, tmp_path)
        json = pool.submit(at_terminal, [*arguments, "--json"], {}, tmp_path)

    route = f"direct ({silent.address}:{silent.port})"
    assert text.result()[1].decode().startswith(f"ringtasks: box: no answer for 2 s over {route}")
    assert json.result()[1].startswith(b"{")
