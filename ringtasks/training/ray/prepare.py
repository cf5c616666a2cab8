"""Check hosts before Ray starts: Ray is installed, in one version, and the ports are free.

Ray takes a port that is in use without a message, or joins the process that holds it, so ports are
checked before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ringtasks.client.ask import Ask
from ringtasks.client.result import last_words
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.common.text import bounded
from ringtasks.errors import AnswerError, ClusterError, UsageError
from ringtasks.remote.answers import json_fields
from ringtasks.remote.programs import Program
from ringtasks.training.rendezvous import likely_free_port

__all__ = ["DASHBOARD_PORT", "Prepared", "prepare", "ray_python"]

DASHBOARD_PORT = 8265  # ray start --help
#: Ray asks for a token from this version on.
_FIRST_WITH_TOKENS = (2, 52)
_TIMEOUT = 60.0

_RUN_PYTHON = Program(__file__, "run_python.sh")
_PORTS = Program(__file__, "port_probe.py")


class Prepared(NamedTuple):
    """One host: the versions of Ray and of its Python, and a free port for each name."""

    ray: str
    python: str
    ports: Mapping[str, int]


def ray_python(program: str, *arguments: str) -> str:
    """Return shell text that runs a program with the Python that ``ray`` is installed for."""
    return _RUN_PYTHON.render(arguments=["-c", program, *arguments])


def prepare(clients: Sequence[SSHClient], dashboard_port: int | None) -> list[Prepared]:
    """Ask each host, the first of which is to be the head.

    :param dashboard_port: of the head; None: 8265 if it is free, else another one.
    :raises UsageError: Ray is missing or of different versions, or a wanted port is in use.
    :raises ClusterError: a host could not be asked.
    """
    head = clients[0]
    answers = dict(each(clients, lambda c: _ask(c, dashboard_port, is_head=c is head)))
    found = [answers[client] for client in clients]
    _check_versions(clients, found)
    return found


def knows_tokens(version: str) -> bool:
    """Return whether that version of Ray asks for a token."""
    parts = version.split(".")
    numbers = tuple(int(part) for part in parts[:2] if part.isdecimal())
    return len(numbers) < 2 or numbers >= _FIRST_WITH_TOKENS


def _ask(client: SSHClient, dashboard_port: int | None, *, is_head: bool) -> Prepared:
    host = client.config.id
    wanted: dict[str, tuple[int, bool]] = {"agent": (likely_free_port(), False)}
    if is_head:
        wanted["dashboard"] = (dashboard_port or DASHBOARD_PORT, dashboard_port is not None)
        wanted["client"] = (likely_free_port(), False)
    answer = client.ask(Ask(ray_python(_PORTS.text, json.dumps(wanted)), _TIMEOUT, in_venv=True))
    if answer.error is not None:
        raise ClusterError(host, answer.error)
    if not answer.success:
        raise UsageError(
            f"{host}: {last_words(answer)}: pip install 'ray[default]' there, or --venv"
        )
    try:
        return _parsed(answer.stdout, wanted, host)
    except AnswerError as error:
        raise ClusterError(host, str(error)) from error


def _parsed(printed: str, wanted: Mapping[str, tuple[int, bool]], host: str) -> Prepared:
    """Parse the output of the program.

    :raises AnswerError: it has another format.
    :raises UsageError: a port that was asked for is in use.
    """
    told = json_fields(printed.strip().rpartition("\n")[2])
    ports, taken = told.fields("ports"), told.fields("taken")
    for name, (port, _) in wanted.items():
        if name not in ports and name in taken:
            raise UsageError(
                f"{host}: port {port} is in use: {bounded(taken.text(name))}: "
                f"give another --{name}-port, or none"
            )
    return Prepared(
        bounded(told.text("ray"), 40),
        bounded(told.text("python"), 40),
        {name: ports.whole(name, at_least=1, at_most=65535) for name in wanted},
    )


def _check_versions(clients: Sequence[SSHClient], found: Sequence[Prepared]) -> None:
    """Check the versions: Ray refuses nodes of another Ray or another Python 3.x.

    :raises UsageError: they differ.
    """
    kinds = {(own.ray, own.python.rpartition(".")[0]) for own in found}
    if len(kinds) > 1:
        listed = "; ".join(
            f"{client.config.id}: Ray {own.ray} on Python {own.python}"
            for client, own in zip(clients, found, strict=True)
        )
        raise UsageError(f"the versions differ: {listed}: install one on all, or name it by --venv")
