"""Find a rendezvous of the machines of a run: an address of the first that all the others reach.

An address in a hosts file is the one that *this* machine uses.  So it is tested: the first machine
listens, the others connect to each address that it might have, and receive a word that only it
knows, because a private address may lead to another machine.  The tailnet's comes first.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ringtasks.client.ask import Ask
from ringtasks.client.held_program import HeldProgram
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.common.text import bounded
from ringtasks.errors import AnswerError, RendezvousError, UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.remote.answers import whole
from ringtasks.remote.programs import Program
from ringtasks.remote.script import quote
from ringtasks.ssh.routes import tcp_routes

__all__ = ["Node", "Rendezvous", "find_rendezvous", "likely_free_port"]

_TIMEOUT = 60.0  # seconds for the whole test
_MAX_PRINTED_BYTES = 64 * 1024
_PROBE = Program(__file__, "rendezvous_probe.py")
#: netdevice(7): IFNAMSIZ is 16, with the NUL. A single "-" stands for none.
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}")
#: For programs that start a moment after their port was found to be free: above Ray's workers
#: (10002 to 19999, ray start --help), and below the ports that a system gives to connections, any
#: of which may take a port meanwhile (ip(7): from 32768 on Linux).
_LIKELY_FREE = range(20_000, 32_768)


class Node(NamedTuple):
    """A machine of the run: the address by which the others know it, and its network interface."""

    host: str
    address: str
    interface: str


@dataclass(frozen=True)
class Rendezvous:
    """The rendezvous of the machines: an address and a port of the first node, free just now."""

    address: str
    port: int
    nodes: tuple[Node, ...]


def find_rendezvous(clients: Sequence[SSHClient], port: int = 0) -> Rendezvous:
    """Let the first host listen and the others connect.

    :param port: the port of the rendezvous; 0: a free one.
    :raises UsageError: it cannot be used.
    :raises RendezvousError: there is no address that all others reach, or no python3 for the test.
    """
    first, others = clients[0], clients[1:]
    word = secrets.token_hex(8)
    with _Listener(first, word, port) as listener:
        addresses = _addresses(first.config, listener.own_address)
        command = _python("connect", word, str(listener.port), *addresses)
        asked = Ask(command, _TIMEOUT, in_venv=True)
        met = {
            client.config.id: _reached(result.stdout) if result else {}
            for client, result in each(others, lambda c: c.ask(asked))
        }
        for address in addresses:
            if all(address in found for found in met.values()):
                # A single machine has no other that connects.
                interface = listener.interface_of(address) if others else ""
                nodes = [Node(first.config.id, address, interface)]
                nodes += [Node(c.config.id, *met[c.config.id][address]) for c in others]
                return Rendezvous(address, listener.port, tuple(nodes))
    evidence = "; ".join(
        f"{host} reaches {', '.join(found) or 'none'} of {', '.join(addresses) or 'no address'}"
        for host, found in met.items()
    )
    raise RendezvousError(first.config.id, evidence)


def _addresses(config: SSHConfig, own: str) -> list[str]:
    """Return the possible addresses of the first host, the tailnet's first; IPv4 and names."""
    embedded = "127.0.0.1" if config.embedded else None
    private = (route.host for route in tcp_routes(config) if route.name != "direct")
    known = (embedded, *private, own, config.host)
    return list(dict.fromkeys(address for address in known if address and ":" not in address))


def _reached(printed: str) -> dict[str, tuple[str, str]]:
    """Return, for each address reached, the source address and its interface."""
    lines = [line.split() for line in printed.splitlines()]
    return {
        line[1]: (_address(line[2]), _interface(line[3]))
        for line in lines
        if len(line) == 4 and _address(line[2])
    }


def _address(text: str) -> str:
    """Return an IPv4 address as a host gives it; empty: it is none."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(text))
    return ""


def _interface(text: str) -> str:
    """Return the name of a network interface as a host gives it; empty: it is none."""
    return text if _INTERFACE_NAME.fullmatch(text) else ""


class _Listener:
    """A socket of the first host that answers with the word, until the block is left."""

    def __init__(self, client: SSHClient, word: str, port: int) -> None:
        self._host, self._given = client.config.id, port
        ports = [port] if port else [likely_free_port(), 0]
        listen = Ask(_python("listen", word, *map(str, ports)), _TIMEOUT, in_venv=True)
        self._program = HeldProgram(client, listen, _MAX_PRINTED_BYTES)
        self.port, self.own_address = 0, ""

    def __enter__(self) -> _Listener:
        try:
            self._await_port()
        except BaseException:  # Ctrl-C, too: the remote program would go on to its time limit
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._program.end(_TIMEOUT)

    def interface_of(self, address: str) -> str:
        """Return the interface of the connections to ``address``; empty: not given."""
        lines = self._lines_until("met", address)
        return _interface(lines[-1][-1]) if lines else ""

    def _await_port(self) -> None:
        """Wait for the line with the port and the address of the host.

        :raises UsageError: the port that was given is in use.
        :raises RendezvousError: there is none.
        """
        lines = self._lines_until("port")
        try:
            _, port, address, *_ = [*lines[-1], "", ""] if lines else ["", "", ""]
            self.port = whole(port, "port", at_least=1, at_most=65535)
            self.own_address = _address(address)
        except AnswerError as error:
            why = str(error) if lines else self._evidence()
            if self._given and f"port {self._given}: " in why:
                raise UsageError(f"{self._host}: {why}: give another port") from error
            raise RendezvousError(self._host, why, is_listening=False) from error

    def _evidence(self) -> str:
        result = self._program.result
        said = self._program.stderr.decode("utf-8", "replace")
        return "no answer" if result is None else bounded(result.error or said)

    def _lines_until(self, *start: str) -> list[list[str]]:
        """Return the lines that begin so, as soon as there is one; none if none comes in time."""

        def found(printed: bytes) -> list[list[str]]:
            whole = printed.decode("utf-8", "replace").split("\n")[:-1]
            return [words for words in map(str.split, whole) if words[: len(start)] == [*start]]

        self._program.wait_for(lambda printed: bool(found(printed)), _TIMEOUT)
        return found(self._program.stdout)


def _python(*arguments: str) -> str:
    return " ".join(["python3 -c", *map(quote, (_PROBE.text, *arguments))])


def likely_free_port() -> int:
    """Return a port that is free on most hosts, and stays so."""
    return random.choice(_LIKELY_FREE)  # noqa: S311  # not a secret
