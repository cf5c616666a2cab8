"""A rollout as JUnit XML, which GitLab, Jenkins and others show: a test case a step and host.

There is no standard: this is what the readers have in common, after the schema of the JUnit task
of Apache Ant and what Jenkins' xunit plugin takes.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from ..deploy.report import DeployReport, HostReport, Standing, StepReport
from ..errors import UsageError

__all__ = ["junit", "write_junit"]

#: What XML 1.0 cannot hold (its section 2.2, Char), and control characters that nobody can read.
_UNFIT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNREACHABLE = 255


def junit(report: DeployReport) -> str:
    """The document."""
    cases = [case for host in report.hosts for case in _cases(host)]
    suite = ET.Element("testsuite", name=_fit(f"{report.action} {report.release}"))
    suite.extend(cases)
    counts = {
        "tests": len(cases),
        **{f"{kind}s": len(suite.findall(f".//{kind}")) for kind in ("failure", "error")},
        "skipped": len(suite.findall(".//skipped")),
    }
    for name, count in counts.items():
        suite.set(name, str(count))
    suite.set("time", f"{report.elapsed_ms / 1000:.3f}")
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def write_junit(path: Path, report: DeployReport) -> None:
    """Write it in one step: a reader finds all of it, or the one before.

    :raises UsageError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as f:
            f.write(junit(report))
        os.chmod(f.name, 0o644)  # noqa: PTH101  # a name, not a path
        Path(f.name).replace(path)
    except OSError as error:
        raise UsageError(f"--junit {path}: {error.strerror or error}") from error


def _cases(host: HostReport) -> list[ET.Element]:
    cases = [_case(host, step) for step in host.steps]
    if not cases or (host.standing in (Standing.UNTOUCHED, Standing.STAGED) and not host.error):
        skipped = _element(host, "switch", 0.0)
        ET.SubElement(skipped, "skipped", message=_fit(host.standing.value))
        cases.append(skipped)
    return cases


def _case(host: HostReport, step: StepReport) -> ET.Element:
    case = _element(host, step.name, step.elapsed_ms)
    if step.error is not None:
        # What was tried and failed, and what could not be tried.
        kind = "error" if host.returncode == _UNREACHABLE else "failure"
        told = ET.SubElement(case, kind, message=_fit(step.error), type=_fit(step.name))
        told.text = _fit(f"{step.error}\n{host.host} is {host.standing}")
    if step.output:
        ET.SubElement(case, "system-out").text = _fit(step.output)
    return case


def _element(host: HostReport, name: str, elapsed_ms: float) -> ET.Element:
    return ET.Element(
        "testcase", classname=_fit(host.host), name=_fit(name), time=f"{elapsed_ms / 1000:.3f}"
    )


def _fit(text: str) -> str:
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)
