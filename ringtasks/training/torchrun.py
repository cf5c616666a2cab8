"""A training command over several machines, as PyTorch's own torchrun starts it.  Pure.

Each machine runs an agent (``torch.distributed.run``) that starts the ranks there; the agents find
one another at a store on the first machine (c10d rendezvous, torch/distributed/run.py).  The first
agent is set to be the store's host: by default the agents compare host names, which rented boxes do
not resolve.  For the same reason each agent is given its own address.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ringtasks.errors import UsageError
from ringtasks.remote.script import quote

from .rendezvous import Rendezvous

__all__ = ["NodeCommand", "check", "commands"]

#: Torchrun's label for the lines of its ranks; `logs.text_lines` reads it.
_RANK_LABEL = "[rank ${rank}]: "

#: The interface that the ranks use; with several, gloo and NCCL would pick by host name.
_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")

#: torchrun's flags (torch/distributed/run.py) that ringtasks sets, or that would undo its settings.
_OWN_FLAGS = frozenset(
    {
        "nnodes", "nproc-per-node", "rdzv-backend", "rdzv-endpoint", "rdzv-id", "rdzv-conf",
        "local-addr", "max-restarts", "tee", "standalone",
    }
)  # fmt: skip
#: Its flags without a value; the value of any other may be the next word.
_SWITCHES = ("help", "module", "no-python", "run-path", "standalone", "virtual-local-rank")
#: In the environment, it makes torchrun ignore the address of the rendezvous.
_STANDALONE = "PET_STANDALONE"

_PYTHON = re.compile(r"\s*(?P<python>\S*\bpython[0-9.]*)(?:\s+-u)*\s+(?P<rest>.*)", re.DOTALL)
_TORCHRUN = re.compile(r"\s*(?P<folder>\S*/)?torchrun\s+(?P<rest>.*)", re.DOTALL)
_MODULE = re.compile(r"-m\s+torch\.distributed\.(?:run|launch)\s+(?P<rest>.*)", re.DOTALL)
_RUN = "-m torch.distributed.run"
#: A word whose meaning the host's shell finds; below a folder of a variable it is a file's name.
_EXPANSION = re.compile(r"`|\$(?!\{?\w+\}?/)")


#: Other programs that start ranks, at the place of the script or of a further command: each node
#: would train alone.
_LAUNCHER = re.compile(
    r"(?:^|[;&|(]\s*)(?:(?:\w+=\S*|exec|env)\s+)*(?:(?:\S*/)?python[0-9.]*\s+)?(?:-[um]\s+)*(?:\S*/)?"
    r"(?P<name>torchrun|accelerate\s+launch|accelerate\.commands\.launch|deepspeed(?:\.launcher\.\w+)?"
    r"|torch\.distributed\.(?:run|launch)|mpirun|mpiexec|srun|horovodrun)\s"
)


class NodeCommand(NamedTuple):
    """One machine's command, and the additions to its environment."""

    command: str
    env: Mapping[str, str]


def commands(
    command: str,
    rendezvous_point: Rendezvous,
    run_id: str,
    nproc_per_node: int,
    env: Mapping[str, str],
) -> list[NodeCommand]:
    """Return the command of each machine, in the order of ``rendezvous_point.nodes``.

    :param command: ``python3 train.py …``, ``python3 -m module …`` or ``torchrun train.py …``.
    :param env: the run's own environment, which is not overridden.
    :raises UsageError: it is none of these, or holds a flag that ringtasks sets.
    """
    launcher, rest = check(command, env)
    found = []
    for n, node in enumerate(rendezvous_point.nodes):
        flags = {
            "nnodes": str(len(rendezvous_point.nodes)),
            "nproc-per-node": str(nproc_per_node),
            "rdzv-backend": "c10d",
            "rdzv-endpoint": f"{rendezvous_point.address}:{rendezvous_point.port}",
            "rdzv-id": run_id,
            "rdzv-conf": f"is_host={'true' if n == 0 else 'false'}",
            "local-addr": node.address,
            "max-restarts": "0",
            "tee": "3",
        }
        given = " ".join(f"--{name}={quote(value)}" for name, value in flags.items())
        own = {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": _RANK_LABEL, "PYTHONUNBUFFERED": "1"}
        if node.interface:
            own.update(dict.fromkeys(_INTERFACE_VARIABLES, node.interface))
        missing = {name: value for name, value in own.items() if name not in env}
        found.append(NodeCommand(f"{launcher} {given} {rest}", missing))
    return found


def check(command: str, env: Mapping[str, str]) -> tuple[str, str]:
    """Return the command that is torchrun, and its arguments: a program with its own ones.

    :raises UsageError: the command cannot run under torchrun, or would undo ringtasks' settings.
    """
    if env.get(_STANDALONE, "0") != "0":
        raise UsageError(f"train: env: {_STANDALONE}: the nodes would not meet: leave it out")
    return _split(command)


def _split(command: str) -> tuple[str, str]:
    found = _TORCHRUN.match(command)
    if found:
        # Without a folder, it need not be on PATH if the module is installed.
        launcher = f"{found['folder']}torchrun" if found["folder"] else f"python3 {_RUN}"
        return launcher, _checked(_alone(found["rest"]))
    found = _PYTHON.match(command)
    if not found or re.match(r"-(?!m\s)", found["rest"]):
        raise UsageError(
            f"train: command: with torchrun, expected 'python3 FILE …', 'python3 -m MODULE …' "
            f"or 'torchrun FILE …', found {command!r}"
        )
    nested = _MODULE.match(found["rest"])
    arguments = _checked(_alone(nested["rest"])) if nested else _alone(found["rest"])
    return f"{found['python']} {_RUN}", arguments


def _alone(arguments: str) -> str:
    """Return the arguments of torchrun unchanged.

    :raises UsageError: they start another launcher of ranks, or might: only the host's shell would
        know the program, or flags before it.
    """
    program = _flags_and_program(arguments)[1]
    if _EXPANSION.match(program):
        raise UsageError(
            f"train: command: with torchrun, expected the program's name, found {program!r}, which "
            "may stand for a launcher or its flags: write it out"
        )
    if found := _LAUNCHER.search(f"{arguments} "):
        raise UsageError(
            f"train: command: ringtasks starts torchrun, and {found['name']} in it would start "
            "ranks again: name the training program alone; other commands can be in setup"
        )
    return arguments


def _checked(arguments: str) -> str:
    """Return the arguments of torchrun unchanged.

    :raises UsageError: they hold a flag that ringtasks sets.
    """
    for flag in _flags_and_program(arguments)[0]:
        # argparse accepts the beginning of a flag for the flag.
        meant = [own for own in _OWN_FLAGS if own == flag or (flag and own.startswith(flag))]
        if meant:
            own = min(meant, key=len)
            raise UsageError(
                f"train: command: torchrun's --{own} is set by ringtasks: leave it out"
                + _INSTEAD.get(own, "")
            )
    return arguments


_INSTEAD = {
    "nnodes": ", and set nodes",
    "nproc-per-node": ", and set nproc_per_node",
    "standalone": ", or set nodes to 1 and nproc_per_node to 1",
}


def _flags_and_program(arguments: str) -> tuple[list[str], str]:
    """Return the names of torchrun's own flags, with dashes, and the first word behind them."""
    flags: list[str] = []
    words = _words(arguments.replace("\\\n", ""))  # as sh joins lines
    for word in words:
        if not word.startswith("-"):
            return flags, word
        name, equals, _ = word.partition("=")
        if name.startswith("--"):
            name = name[2:].replace("_", "-")
        else:
            name = {"-h": "help", "-m": "module", "-r": "redirects", "-t": "tee"}.get(name[:2], "")
            equals = equals or word[2:]
        flags.append(name)
        # Flags may be abbreviated.
        if name and not equals and not any(switch.startswith(name) for switch in _SWITCHES):
            next(words, None)
    return flags, ""


def _words(text: str) -> Iterator[str]:
    """Yield the words one by one: those behind the program need not be read."""
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters = True, ""
    try:
        yield from words
    except ValueError as error:
        raise UsageError(f"train: command: {error}") from None
