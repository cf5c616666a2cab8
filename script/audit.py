#!/usr/bin/env python3
"""Ask PyPI for known vulnerabilities of the packages that ringtasks needs, with pip-audit.

Run it with the Python of .venv. Exit status: 1 if there is one; 75 (sysexits.h, EX_TEMPFAIL) if
PyPI answers for no package, since then nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: Ids of vulnerabilities that do not concern ringtasks, each with its reason.
IGNORED: dict[str, str] = {}
NO_ANSWER = 75
LIMIT = 40  # seconds; more only delays the checks that follow


def needed(name: str, extras: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the installed packages that a package needs, each with its version."""
    found: dict[str, str] = {}
    todo = [(name, extras)]
    while todo:
        package, wanted = todo.pop()
        for text in metadata.requires(package) or ():
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in (*wanted, "")]
            marker = requirement.marker
            if marker is not None and not any(map(marker.evaluate, environments)):
                continue
            needs = canonicalize_name(requirement.name)
            if needs not in found:
                found[needs] = metadata.version(needs)
                todo.append((needs, frozenset(requirement.extras)))
    return found


def asked(command: list[str]) -> list[dict[str, Any]]:
    """Return pip-audit's answers; none if it cannot ask."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=LIMIT)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, subprocess.TimeoutExpired):
        return []
    return found


def main() -> int:
    packages = needed("ringtasks", frozenset({"demo"}))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pinned:
        pinned.writelines(f"{name}=={version}\n" for name, version in packages.items())
        pinned.flush()
        ignored = [word for each in IGNORED for word in ("--ignore-vuln", each)]
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", pinned.name, "--no-deps",
            "--disable-pip", "--progress-spinner", "off", "--timeout", "10", "--format", "json",
        ]  # fmt: skip
        answers = asked([*command, *ignored])
    known = [answer for answer in answers if "vulns" in answer]
    faults = [(answer, vulnerability) for answer in known for vulnerability in answer["vulns"]]
    for answer, fault in faults:
        fixed = ", ".join(fault["fix_versions"]) or "no version"
        print(f"{answer['name']} {answer['version']}: {fault['id']}, fixed in {fixed}")
    unknown = sorted(set(packages) - {canonicalize_name(answer["name"]) for answer in known})
    if not known:
        print("script/audit.py: NOT CHECKED: PyPI answered for no package", file=sys.stderr)
        return NO_ANSWER
    print(f"script/audit.py: {len(known)} packages checked", file=sys.stderr)
    if unknown:
        print(f"script/audit.py: NOT CHECKED: {', '.join(unknown)}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
