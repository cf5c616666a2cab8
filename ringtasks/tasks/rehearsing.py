"""The flag ``--rehearse`` of every task that connects, and the marks on its output."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ringtasks.common import rehearsal
from ringtasks.errors import UsageError
from ringtasks.output import display

if TYPE_CHECKING:
    from ringtasks.inventory.model import Inventory

__all__ = ["FLAG", "REHEARSE_HELP", "check_rehearsed_hosts", "rehearsed", "signature_with_flag"]

FLAG = "rehearse"
_NOTHING = "nothing failed on purpose: no route was tried that was to fail"
REHEARSE_HELP = "let routes fail on purpose: tailscale=down,direct=slow:2s,gpu1.direct=cut:3s"


def signature_with_flag(body: Callable[..., Any]) -> inspect.Signature:
    """Return a task's parameters and the flag, by which Invoke learns of it."""
    found = inspect.signature(body)
    flag = inspect.Parameter(FLAG, inspect.Parameter.KEYWORD_ONLY, default=None)
    return found.replace(parameters=[*found.parameters.values(), flag])


@contextlib.contextmanager
def rehearsed(words: str | None) -> Iterator[None]:
    """Put a rehearsal in force during a task; report it at the beginning and at the end.

    :param words: the flag's value; None: the variable's, if it is set.
    :raises UsageError: a word has no meaning.
    """
    if words is None and rehearsal.current() is None:
        yield
        return
    with contextlib.nullcontext() if words is None else rehearsal.rehearsing(words):
        from ringtasks.ssh.rehearsal import check, summary

        check()
        _begin()
        is_refused = False
        try:
            yield
        except UsageError:
            is_refused = True
            raise
        finally:
            told = summary()
            if told or not is_refused:
                display.say(f"REHEARSAL: {told or _NOTHING}")


def check_rehearsed_hosts(inventory: Inventory) -> None:
    """Check that the hosts which the rehearsal in force names are known.

    :param inventory: with the addresses that the task was given.
    :raises UsageError: one of them is not.
    """
    if rehearsal.current() is None:
        return
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.ssh.rehearsal import check_hosts

    known = [*inventory.absent, *(host.name for host in inventory.hosts.values())]
    for jump in {host.proxy_jump for host in inventory.hosts.values() if host.proxy_jump}:
        with contextlib.suppress(ValueError):
            known.append(SSHConfig.parse(jump).id)
    check_hosts(known)


def _begin() -> None:
    found = rehearsal.current()
    assert found is not None  # noqa: S101  # for the type checker
    display.say(found.notice)
    rehearsal.announce()
    from ringtasks.output import github

    if github.is_active(os.environ):
        line = github.command("warning", found.notice, title="Rehearsal")
        print(line, file=sys.stderr, flush=True)
