"""``inv doctor``: whether this machine has what ringtasks needs."""

from __future__ import annotations

from invoke import Context, Exit

from .. import display
from .options import INVENTORY_HELP, JSON_HELP, task

__all__ = ["doctor"]


@task(help={"json": JSON_HELP, "inventory": INVENTORY_HELP})
def doctor(c: Context, json: bool = False, inventory: str | None = None) -> None:
    """Check this machine: ssh, cloudflared, tailscale, keys, inventory, state."""
    from ..doctor import examine

    given = inventory or c.config.get("ringtasks", {}).get("inventory")
    findings = examine(given)
    if json:
        for finding in findings:
            display.json_line(vars(finding))
    else:
        rows = [(f.verdict, f.subject, f.evidence, f.advice) for f in findings]
        display.table(["", "what", "found", "to do"], rows)
    raise Exit(code=1 if any(finding.verdict == "bad" for finding in findings) else 0)
