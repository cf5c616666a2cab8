"""GitHub Actions: workflow commands and the step summary.

Sources: GitHub's documentation, "Workflow commands for GitHub Actions"; the escapes are those of
actions/toolkit (packages/core, command.ts).
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from ..deploy.report import DeployReport, HostReport
from ..display import visible

__all__ = ["annotation", "command", "is_active", "summary", "write_summary"]

#: What GitHub takes for one step's summary.
_MAX_SUMMARY_BYTES = 1024 * 1024


def is_active(environ: Mapping[str, str]) -> bool:
    """Whether GitHub Actions reads our output."""
    return environ.get("GITHUB_ACTIONS") == "true"


def command(name: str, message: str = "", **properties: str) -> str:
    """A line that the runner obeys: ``group``, ``endgroup``, ``error``, ``add-mask`` …"""
    given = ",".join(f"{key}={_escaped(value, property=True)}" for key, value in properties.items())
    return f"::{name}{' ' + given if given else ''}::{_escaped(message)}"


def annotation(host: HostReport) -> str:
    """What went wrong on a host, shown beside the run."""
    return command("error", f"{host.host}: {host.error}: {host.standing}", title="Deploy failed")


def summary(report: DeployReport) -> str:
    """The rollout as Markdown."""
    outcome = "succeeded" if report else "failed"
    lines = [
        f"### {report.action.capitalize()} {outcome}: `{_plain(report.release)}`",
        "",
        "| host | | before | now | seconds | |",
        "| --- | --- | --- | --- | ---: | --- |",
    ]
    for host in report.hosts:
        cells = (
            host.host,
            host.standing.value,
            host.previous or "",
            host.current or "",
            f"{host.elapsed_ms / 1000:.1f}",
            host.error or "",
        )
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def write_summary(report: DeployReport, environ: Mapping[str, str]) -> None:
    """Add it to the step's summary, where there is one.

    :raises OSError: the file that GitHub has named cannot be written.
    """
    name = environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    text = summary(report).encode()
    if len(text) <= _MAX_SUMMARY_BYTES:
        with Path(name).open("ab") as file:
            file.write(text)


def _escaped(text: str, *, property: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if property else text


def _plain(text: str) -> str:
    return visible(text).replace("`", "'").replace("\t", " ")


def _cell(text: str) -> str:
    """Text that is neither Markdown nor HTML: a host's words do not format our table."""
    if not text:
        return ""
    return f"<code>{html.escape(_plain(text)).replace('|', '&#124;')}</code>"
