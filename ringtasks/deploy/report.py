"""The results of a rollout, as values from which reports are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ringtasks.common.text import TextEnum

__all__ = ["DeployReport", "EndState", "HostReport", "StepReport"]


class EndState(TextEnum):
    """State of a host at the end; the value is shown to people."""

    UNCHANGED = "unchanged"
    STAGED = "built, not switched"
    DEPLOYED = "deployed"
    FAILED = "failed, and left on the new release"
    REVERTED = "reverted"
    UNKNOWN = "not known"


class StepReport(NamedTuple):
    """Result of a step on one host: ``lock``, ``upload``, ``build``, ``switch``, ``restart`` …

    ``error`` is None if the step succeeded.  ``output`` is the end of the commands' output: remote
    text, without the values of secrets.
    """

    name: str
    elapsed_ms: float
    error: str | None = None
    output: str = ""


@dataclass
class HostReport:
    """Result on one host.

    ``previous`` is the release that was current before; ``current`` is the one at the end; None:
    there is none, or it is not known (``is_current_known``).  ``error`` joins the errors of all
    steps, the first one first.  ``returncode`` is that of the first error: 1 for a command that
    failed, 75 for a lock that another deploy holds or that was lost, 124, 130 and 255 as for
    ``inv run``.
    ``removed`` are the old releases that were removed; ``left`` are the paths that could not be
    removed, with the reasons.
    """

    host: str
    end_state: EndState = EndState.UNCHANGED
    previous: str | None = None
    current: str | None = None
    error: str | None = None
    returncode: int = 0
    steps: list[StepReport] = field(default_factory=list)
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    sent_bytes: int = 0
    transport_used: str | None = None
    is_current_known: bool = True

    @property
    def success(self) -> bool:
        return self.end_state is EndState.DEPLOYED

    @property
    def elapsed_ms(self) -> float:
        return round(sum(step.elapsed_ms for step in self.steps), 3)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "host_id": self.host,
            "success": self.success,
            "end_state": self.end_state.value,
            "previous": self.previous,
            "current": self.current,
            "is_current_known": self.is_current_known,
            "error": self.error,
            "returncode": self.returncode,
            "steps": [step._asdict() for step in self.steps],
            "removed": list(self.removed),
            "left": list(self.left),
            "sent_bytes": self.sent_bytes,
            "transport_used": self.transport_used,
            "elapsed_ms": self.elapsed_ms,
        }


@dataclass
class DeployReport:
    """Result of a rollout; true if all hosts were deployed.

    ``action`` is ``deploy`` or ``rollback``; ``elapsed_ms`` is the time of the whole rollout.
    """

    action: str
    release: str
    revision: str
    who: str
    link: str
    hosts: list[HostReport]
    elapsed_ms: float = 0.0
    is_interrupted: bool = False

    def __bool__(self) -> bool:
        return all(host.success for host in self.hosts)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one mapping for each host, for JSON lines."""
        common = {"action": self.action, "release": self.release, "revision": self.revision}
        return [{**host.to_dict(), **common} for host in self.hosts]
