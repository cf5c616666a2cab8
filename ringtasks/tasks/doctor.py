"""``inv doctor``: check that this machine has all that ringtasks needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.output import display
from ringtasks.output.tables import table

from .core_flags import ended
from .options import located, task

if TYPE_CHECKING:
    from ringtasks.ssh.doctor import Finding

__all__ = ["doctor"]


@task(connects=False)
def doctor(c: Context, json: bool = False, inventory: str | None = None) -> list[Finding]:
    """Check this machine: ssh, cloudflared, tailscale, keys, inventory, state."""
    from ringtasks.ssh.doctor import examine

    findings = examine(lambda: located(c, inventory))
    if json:
        display.json_lines(map(vars, findings))
    else:
        rows = [(f.verdict, f.subject, f.evidence, f.advice) for f in findings]
        table(["", "check", "result", "fix"], rows)
    return ended(c, findings, int(any(finding.verdict == "bad" for finding in findings)))
