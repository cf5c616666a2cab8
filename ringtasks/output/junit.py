"""JUnit XML of a rollout, for the test reports of GitLab, Jenkins and GitHub's report actions.

JUnit XML has no standard; this file has the parts that those three read.  It is one test suite,
named for the action alone (or for its rehearsal), with one test case for each step on each host.
The readers match tests of different runs by suite, class and name, so these contain neither the
release nor the time.  GitLab shows the text of a ``failure`` but neither its ``message`` nor any
``system-out`` (``lib/gitlab/ci/parsers/test/junit.rb``), so that text contains the output of a
failed command.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common import rehearsal
from ringtasks.common.atomic_file import replace_file
from ringtasks.common.special_files import is_descriptor, special_kind
from ringtasks.common.text import visible, visible_lines
from ringtasks.deploy.report import DeployReport, EndState, HostReport, StepReport
from ringtasks.errors import UsageError
from ringtasks.exit_status import UNREACHABLE

__all__ = ["junit", "prepare_junit", "write_junit"]


def junit(report: DeployReport) -> str:
    """Return the whole file; control characters are replaced, so that it is well-formed."""
    rehearsed = rehearsal.current()
    # As a suite of its own it is no part of the deploys' history.
    name = f"rehearsal of {report.action}" if rehearsed else str(report.action)
    suite = ET.Element("testsuite", name=visible(name))
    properties = ET.SubElement(suite, "properties")
    told = {name: getattr(report, name) for name in ("release", "revision", "who", "link")}
    told |= {"rehearsal": rehearsed.words} if rehearsed else {}
    for name, value in told.items():
        ET.SubElement(properties, "property", name=name, value=visible(value))
    for host in report.hosts:
        _add_host(suite, host)
    _count(suite, report.elapsed_ms)
    root = ET.Element("testsuites", {**suite.attrib, "name": "ringtasks"})
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def prepare_junit(path: Path) -> None:
    """Check before a deploy that `write_junit` can write; create the folder.

    :raises UsageError: ``path`` is a folder, or its parent cannot be created or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "is a folder; give a file in it", str(path))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _cannot(path, error) from error


def write_junit(path: Path, report: DeployReport) -> None:
    """Write the file and create its folder; a reader sees the old file or the whole new one.

    :raises UsageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_descriptor(path) or special_kind(path) is not None:
            path.write_text(junit(report), "utf-8")  # --junit /dev/stdout
            return
        # The upload step may run as another user.
        replace_file(path, junit(report), mode=0o644)
    except OSError as error:
        raise _cannot(path, error) from error


def _add_host(suite: ET.Element, host: HostReport) -> None:
    for step, name in zip(host.steps, _names(host.steps), strict=True):
        case = _case(suite, host.host, name, step.elapsed_ms)
        if step.error is not None:
            _add_fault(case, host, step.error, step.output)
        elif step.output:
            ET.SubElement(case, "system-out").text = visible_lines(step.output)
    if host.error and all(step.error is None for step in host.steps):
        _add_fault(_case(suite, host.host, "deploy", 0.0), host, host.error, "")
    if not host.error and host.end_state in (EndState.UNCHANGED, EndState.STAGED):
        case = _case(suite, host.host, "switch", 0.0)
        ET.SubElement(case, "skipped", message=str(host.end_state))


def _case(suite: ET.Element, host: str, name: str, elapsed_ms: float) -> ET.Element:
    attributes = {"classname": visible(host), "name": visible(name), "time": _seconds(elapsed_ms)}
    return ET.SubElement(suite, "testcase", attributes)


def _names(steps: list[StepReport]) -> Iterator[str]:
    """Yield the names of the cases; a repeated step gets a number: ``switch``, ``switch 2``."""
    times = Counter[str]()
    for step in steps:
        times[step.name] += 1
        yield step.name if times[step.name] == 1 else f"{step.name} {times[step.name]}"


def _add_fault(case: ET.Element, host: HostReport, error: str, output: str) -> None:
    """Add a ``failure``, or an ``error`` if the host was not reached or its state is unknown."""
    tag = "error" if host.returncode == UNREACHABLE else "failure"
    fault = ET.SubElement(case, tag, message=visible(error), type=visible(str(host.end_state)))
    parts = [error, *([output] * bool(output)), f"{host.host}: {host.end_state}"]
    fault.text = visible_lines("\n\n".join(parts))


def _count(suite: ET.Element, elapsed_ms: float) -> None:
    counts = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    for attribute, tag in counts.items():
        suite.set(attribute, str(sum(1 for _ in suite.iter(tag))))
    suite.set("time", _seconds(elapsed_ms))


def _seconds(elapsed_ms: float) -> str:
    return f"{elapsed_ms / 1000:.3f}"


def _cannot(path: Path, error: OSError) -> UsageError:
    return UsageError(f"--junit {path}: {error.strerror or error}")
