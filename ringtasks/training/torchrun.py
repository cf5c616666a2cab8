"""A training command over several machines, as PyTorch's own torchrun starts it.  Pure.

Each machine runs an agent (``torch.distributed.run``) that starts the ranks there; the agents find
one another at a store on the first machine (c10d rendezvous, torch/distributed/run.py).  The first
one is told to be the store's host: left to themselves the agents compare host names, which rented
boxes do not resolve.  For the same reason each is told its own address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ringtasks.errors import UsageError
from ringtasks.remote.script import quote

from .rendezvous import Meeting

__all__ = ["NodeCommand", "commands"]

#: How torchrun is to label the lines of its ranks; `metrics` knows it.
_RANK_LABEL = "[rank ${rank}]: "

#: The interface that the ranks talk over; with several, gloo and NCCL would pick by host name.
_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")

_PYTHON = re.compile(r"\s*(?P<python>\S*\bpython[0-9.]*)(?:\s+-u)*\s+(?P<rest>.*)", re.DOTALL)
_TORCHRUN = re.compile(r"\s*torchrun\s+(?P<rest>.*)", re.DOTALL)


class NodeCommand(NamedTuple):
    """What one machine runs, and what its environment needs besides."""

    command: str
    env: Mapping[str, str]


def commands(
    command: str, meeting: Meeting, run_id: str, nproc_per_node: int, env: Mapping[str, str]
) -> list[NodeCommand]:
    """The command of each machine, in the order of ``meeting.nodes``.

    :param command: ``python3 train.py …``, ``python3 -m module …`` or ``torchrun train.py …``.
    :param env: the run's own environment, which is not overridden.
    :raises UsageError: it is none of these.
    """
    python, rest = _split(command)
    found = []
    for n, node in enumerate(meeting.nodes):
        flags = {
            "nnodes": str(len(meeting.nodes)),
            "nproc-per-node": str(nproc_per_node),
            "rdzv-backend": "c10d",
            "rdzv-endpoint": f"{meeting.address}:{meeting.port}",
            "rdzv-id": run_id,
            "rdzv-conf": f"is_host={'true' if n == 0 else 'false'}",
            "local-addr": node.address,
            "max-restarts": "0",
            "tee": "3",
        }
        told = " ".join(f"--{name}={quote(value)}" for name, value in flags.items())
        own = {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": _RANK_LABEL, "PYTHONUNBUFFERED": "1"}
        if node.interface:
            own.update(dict.fromkeys(_INTERFACE_VARIABLES, node.interface))
        missing = {name: value for name, value in own.items() if name not in env}
        found.append(NodeCommand(f"{python} -m torch.distributed.run {told} {rest}", missing))
    return found


def _split(command: str) -> tuple[str, str]:
    """The interpreter, and what torchrun is given: a script or ``-m module``, and its arguments."""
    found = _TORCHRUN.match(command)
    if found:
        return "python3", found["rest"]
    found = _PYTHON.match(command)
    if not found or re.match(r"-(?!m\s)", found["rest"]):
        raise UsageError(
            f"train: command: with several nodes, expected 'python3 FILE …', 'python3 -m MODULE …' "
            f"or 'torchrun FILE …', found {command!r}"
        )
    return found["python"], found["rest"]
