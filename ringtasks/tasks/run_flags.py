"""The flags of ``inv run``, parsed."""

from __future__ import annotations

from collections.abc import Mapping

from ringtasks.common.light_typing import NamedTuple

__all__ = ["OutputFlags", "RunFlags"]


class RunFlags(NamedTuple):
    """The command to run, and its limits."""

    command: str
    label: str
    """The command as the results show it."""
    timeout: float | None
    cwd: str | None
    env: Mapping[str, str]
    transport: str | None
    repeats: int
    pty: bool
    fanout: int | None
    serial: str | None
    max_failures: str | None
    skip_unhealthy: bool
    pick: int | None
    name: str | None
    has_stdin: bool

    @property
    def chooses(self) -> bool:
        """True if health decides which of the selected hosts run it."""
        return self.skip_unhealthy or self.pick is not None


class OutputFlags(NamedTuple):
    """The display of the output."""

    json: bool
    fold: bool
    diff: bool
    outdir: str | None
    hidden: tuple[int, ...] = ()
    """The streams that are not shown."""

    @property
    def streams(self) -> bool:
        """True if output is shown as it comes."""
        return not (self.json or self.fold or self.diff)

    @property
    def is_plain(self) -> bool:
        """True if the output is that of one host, without folding, differences or files."""
        return not (self.fold or self.diff or self.outdir)
