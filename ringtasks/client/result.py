"""`SSHResult`: the outcome of one command on one host."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any

from ringtasks.common.light_dataclass import dataclass
from ringtasks.common.text import printable
from ringtasks.exit_status import UNREACHABLE

__all__ = ["SSHResult", "last_words", "text_of", "why_failed"]


@dataclass(frozen=True)
class SSHResult:
    """The outcome of one command; true if it succeeded.

    ``returncode`` is the command's own, or 255 if no route worked, the link was lost or the host
    ran another program, 124 if the time limit passed, 130 if it was interrupted.  In these cases
    ``error`` says so; else it is None.
    ``stdout`` and ``stderr`` are decoded as UTF-8 with replacement; the ``_bytes`` are untouched.
    """

    success: bool
    returncode: int
    stdout: str
    stderr: str
    elapsed_ms: float
    command: str
    host: str
    transport_used: str | None = None
    timed_out: bool = False
    error: str | None = None
    stdout_bytes: bytes = field(default=b"", repr=False, kw_only=True)
    stderr_bytes: bytes = field(default=b"", repr=False, kw_only=True)
    is_unknown: bool = field(default=False, repr=False, kw_only=True)
    """True if the link was lost when the command may have started: it may or may not have run."""
    is_other_program: bool = field(default=False, repr=False, kw_only=True)
    """True if the host was reached, but ran another program than it was asked for."""
    has_silent_shell: bool = field(default=False, repr=False, kw_only=True)
    """True if the time limit passed before the command's shell answered."""
    may_go_on: bool = field(default=False, repr=False, kw_only=True)
    """True if it was interrupted, and its processes were not seen to end."""

    def __bool__(self) -> bool:
        return self.success

    @property
    def is_worth_another_try(self) -> bool:
        """True if only the route to the host failed: repeat a command that may run twice."""
        return (
            self.returncode == UNREACHABLE and self.error is not None and not self.is_other_program
        )

    @property
    def output(self) -> str:
        """Both streams, stdout first, without surrounding white space."""
        return f"{self.stdout}\n{self.stderr}".strip()

    def with_note(self, note: str) -> SSHResult:
        """Return the same result with ``note`` appended to ``error``."""
        return replace(self, error="; ".join(part for part in (self.error, note) if part))

    def for_command(self, command: str) -> SSHResult:
        """Return the same result for ``command``, in place of the script that was executed."""
        return replace(self, command=command)

    def to_dict(self) -> dict[str, Any]:
        """Return the positional fields, in the order above, as JSON can hold them."""
        names = [name for name, known in self.__dataclass_fields__.items() if not known.kw_only]
        return {name: getattr(self, name) for name in names}


def last_words(result: SSHResult) -> str:
    """Return the last stderr line of a failed launcher, else its exit status."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    why = [line for line in lines if line != "ringtasks: the job was not started"]
    return printable(why[-1]) if why else f"exit status {result.returncode}"


def why_failed(result: SSHResult) -> str | None:
    """Return the reason why a script of ours did not succeed; None: it did."""
    is_done = result.error is None and result.success
    return None if is_done else result.error or last_words(result)


def text_of(interrupt: KeyboardInterrupt) -> str:
    """Return what an interrupted operation says of the host; empty: nothing had been sent."""
    told = interrupt.args[0] if interrupt.args else ""
    return told.error or "" if isinstance(told, SSHResult) else str(told)
