"""GitHub Actions: annotations, groups and the summary of a step.

Commands are lines that the runner obeys, on stdout and stderr alike (docs.github.com, "Workflow
commands for GitHub Actions"; escapes as in ``ActionCommand.cs`` of actions/runner).  They go to
stderr, since ``--json`` writes to stdout.

The runner must not obey the output of hosts.  It accepts ``::name::`` at the beginning of a line
after white space, but ``##[name]`` *anywhere* in a line: a host's name in front is no protection.
So each line is made harmless.  ``::stop-commands::`` would need all lines in one order, but the
runner reads stdout and stderr separately; and it would stop the commands of ringtasks too.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ringtasks.common import rehearsal
from ringtasks.common.text import visible, visible_lines

if TYPE_CHECKING:
    from ringtasks.deploy.report import DeployReport, HostReport

__all__ = ["command", "faults", "harmless", "is_active", "summary", "write_summary"]

#: "Job summaries are isolated between steps … limited to 1 MiB": a longer one is not shown at all.
_MAX_SUMMARY_BYTES = 1024 * 1024
#: "10 warning annotations, 10 error annotations … per step": GitHub shows the first ones.
_MAX_ANNOTATIONS = 10

# .NET compares by culture and ignores characters without weight, such as zero-width ones: these
# patterns ignore everything beyond ASCII.  Its lines also end at a "\r".
# ``##vso[`` is Azure Pipelines' form, ``##teamcity[`` TeamCity's.
_LEGACY = re.compile(r"#(?=[^ -~]*#[^ -~]*(?:(?:vso|teamcity)[^ -~]*)?\[)", re.IGNORECASE)
_COMMAND = re.compile(r"(?:^|(?<=[\r\n]))(?=[^!-~\r\n]*:[^!-~\r\n]*:)")


def is_active(environ: Mapping[str, str]) -> bool:
    """Return True if a runner of GitHub Actions reads this process's output."""
    return environ.get("GITHUB_ACTIONS") == "true"


def command(name: str, message: str = "", **properties: str) -> str:
    """Return a line that the runner obeys: ``group``, ``endgroup``, ``error``, ``add-mask`` …"""
    given = ",".join(f"{key}={_escaped_property(value)}" for key, value in properties.items())
    return f"::{name}{' ' + given if given else ''}::{_escaped(message)}"


def harmless(text: str) -> str:
    """Return the text, of one line or many, changed so that the runner obeys none of it."""
    return _COMMAND.sub("| ", _LEGACY.sub("# ", text))


def faults(report: DeployReport) -> list[str]:
    """Return error annotations, one for all hosts with the same error.

    If there are more than GitHub shows, the last annotation counts the hosts left out.
    """
    from ringtasks.fleet.folding import groups_of  # imported late: the rollout has ended

    failed = [host for host in report.hosts if host.error]
    groups = groups_of(failed, lambda host: host.host, lambda host: (host.end_state, host.error))
    shown = groups if len(groups) <= _MAX_ANNOTATIONS else groups[: _MAX_ANNOTATIONS - 1]
    told = [
        _error(failed[own.first].error or "", f"{own}: {failed[own.first].end_state}")
        for own in shown
    ]
    if len(groups) > len(shown):
        left = sum(len(own.hosts) for own in groups[len(shown) :])
        told.append(_error(f"{left} more hosts failed: see the summary of this step"))
    return told


def summary(report: DeployReport, limit_bytes: int = _MAX_SUMMARY_BYTES) -> str:
    """Return a Markdown table of the hosts, failed ones first.

    It is cut to ``limit_bytes`` by whole rows; empty if not even its heading fits.
    """
    rows = [_row(host) for host in sorted(report.hosts, key=lambda host: host.success)]
    lines = [*_heading(report), "| host | state | before | now | time | error |"]
    lines.append("| --- | --- | --- | --- | ---: | --- |")
    left = limit_bytes - _size(lines) - 100  # bytes for the note below
    if left < 0:
        return ""
    for number, row in enumerate(rows):
        left -= _size([row])
        if left < 0:
            lines += ["", f"… and {len(rows) - number} hosts more."]
            break
        lines.append(row)
    return "\n".join(lines) + "\n\n"


def write_summary(report: DeployReport, environ: Mapping[str, str]) -> bool:
    """Append the summary to the step's summary file, if there is one, within its size limit.

    :returns: False: the file has no room for it, and nothing was added: GitHub would drop it all.
    :raises OSError: the file that GitHub has named cannot be written.
    """
    name = environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return True
    with open(name, "a", encoding="utf-8", opener=_without_waiting) as file:
        text = summary(report, _MAX_SUMMARY_BYTES - file.tell())
        file.write(text)
        return bool(text)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has no reader is an error (ENXIO), not a wait."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def _error(message: str, title: str = "Deploy failed") -> str:
    return command("error", visible_lines(message), title=visible(title))


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _heading(report: DeployReport) -> list[str]:
    done = sum(host.success for host in report.hosts)
    what = f"{report.action} {report.release}".strip()
    if (rehearsed := rehearsal.current()) is not None:
        what = f"REHEARSAL ({rehearsed.words}): {what}"
    mark = "✅" if report else "❌"
    lines = [f"### {mark} {_plain(what)}: {done} of {len(report.hosts)} hosts", ""]
    told = [f"Revision {_plain(report.revision)}"] if report.revision else []
    told += [f"by {_plain(report.who)}"] if report.who else []
    told.append(f"in {report.elapsed_ms / 1000:.1f} s")
    told += ["interrupted"] if report.is_interrupted else []
    return [*lines, ", ".join(told) + ".", ""]


def _row(host: HostReport) -> str:
    current = (host.current or "–") if host.is_current_known else "not known"
    cells = [host.host, str(host.end_state), host.previous or "–", current]
    cells += [f"{host.elapsed_ms / 1000:.1f} s", host.error or ""]
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Escape the text for Markdown, Markdown tables and HTML."""
    one_line = " ".join(visible(line) for line in text.split("\n")).strip()
    return "".join(f"&#{ord(char)};" if char in string.punctuation else char for char in one_line)


def _size(lines: Iterable[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)
