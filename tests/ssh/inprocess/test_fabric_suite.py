"""Fabric's own tests, with our Connection in place of Fabric's.

``script/fabric-suite`` fetches them.  Those in ``integration/`` log in to ``localhost``, which the
inventory leads to our sshd, over either kind of link; those in ``tests/`` replace Paramiko's client
by a mock, so that there is no link.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.support.fixtures import ROOT
from tests.support.sshd import Sshd

SUITE = ROOT / ".fabric-suite"
PLUGIN = ROOT / "tests" / "support" / "fabric"
WORDS = Path("/usr/share/dict/words")  # what integration/ reads


@pytest.fixture(scope="module")
def suite() -> Path:
    """The folder of Fabric's sources."""
    if not (SUITE / "installed").exists():
        missing = "Fabric's tests are missing: run script/fabric-suite"
        pytest.skip(missing)
    return SUITE / "source"


@pytest.mark.timeout(600)
def test_fabrics_integration_tests_pass(
    suite: Path, use_control_master: bool, sshd: Sshd, client_key: Path, tmp_path: Path
) -> None:
    if not WORDS.exists():
        pytest.skip(f"{WORDS} is missing: install wamerican")
    common = {
        "ssh_port": sshd.port, "ssh_key": str(client_key), "use_control_master": use_control_master,
    }  # fmt: skip
    hosts = {name: {"ssh_host": name, **common} for name in ("localhost", "127.0.0.1")}
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text(yaml.safe_dump({"hosts": hosts}))

    outcomes = run(suite, "integration", tmp_path, RINGTASKS_HOSTS=str(inventory))

    assert unexpected(outcomes) == {}
    skipped = 1 if os.getuid() == 0 else 3  # one is skipped by Fabric, two try sudo
    assert counts(outcomes) == {"passed": 24 - skipped, "skipped": skipped}


@pytest.mark.timeout(600)
def test_fabrics_unit_tests_pass(suite: Path, tmp_path: Path) -> None:
    outcomes = run(suite, "tests", tmp_path)

    assert unexpected(outcomes) == {}
    assert counts(outcomes) == {"passed": 384, "failure": 10, "skipped": 7}


def run(suite: Path, folder: str, tmp_path: Path, **environ: str) -> dict[str, str]:
    """The outcome of each test, by its id."""
    report = tmp_path / "report.xml"
    python = SUITE / "venv" / "bin" / "python"
    # -c: else pytest would take our configuration, in a folder above.
    argv = [python, "-m", "pytest", "-c", "setup.cfg", "-s", "-p", "ours_for_fabrics"]
    own = {
        "PYTHONPATH": str(PLUGIN),
        "PATH": f"{python.parent}:{os.environ['PATH']}",  # a test runs "python -m fabric"
        **({"CIRCLECI": "1", "LOGNAME": "root"} if os.getuid() == 0 else {}),  # tries sudo
    }
    ended = subprocess.run(
        [*argv, f"--junit-xml={report}", folder],
        cwd=suite,
        env={**os.environ, **own, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), ended.stdout + ended.stderr
    return dict(outcome_of(case) for case in ElementTree.parse(report).iter("testcase"))


def counts(outcomes: dict[str, str]) -> Counter[str]:
    return Counter(outcome.partition(":")[0] for outcome in outcomes.values())


def outcome_of(case: ElementTree.Element) -> tuple[str, str]:
    module, *classes = case.attrib["classname"].split(".")[1:]
    folder = case.attrib["classname"].partition(".")[0]
    name = "::".join([f"{folder}/{module}.py", *classes, case.attrib["name"]])
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return name, f"{kind}: {found.attrib.get('message', '')}"
    return name, "passed"


def unexpected(outcomes: dict[str, str]) -> dict[str, str]:
    """The tests that fail and are not on the list, and those on the list that pass."""
    listed = yaml.safe_load((PLUGIN / "cannot_pass.yaml").read_text())
    return {
        name: outcome
        for name, outcome in outcomes.items()
        if (name in listed) != outcome.startswith(("failure", "error"))
    }
