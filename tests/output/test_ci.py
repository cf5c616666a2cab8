"""What CI gets to see of a deploy, and the examples for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.common.redaction import masking
from ringtasks.deploy.report import DeployReport, EndState, HostReport, StepReport
from ringtasks.errors import UsageError
from ringtasks.output import ci, github
from ringtasks.output.junit import junit, write_junit
from tests.support.fixtures import ROOT

EXAMPLES = ROOT / "examples" / "ci"
_SCHEMAS = {
    "github/deploy.yml": ["vendor.github-workflows"],
    "github/action.yml": ["vendor.github-actions"],
    "gitlab/.gitlab-ci.yml": ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
}


@pytest.mark.parametrize("name", _SCHEMAS)
def test_ci_example_is_valid_against_its_schema(name: str) -> None:
    schema = ["--builtin-schema", *_SCHEMAS[name]]
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", _SCHEMAS)
def test_docs_include_the_ci_examples_verbatim(name: str) -> None:
    quoted = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)
    assert (EXAMPLES / name).read_text() in quoted


def test_docs_list_the_json_fields_of_a_deploy() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()

    listed = page.partition("one object for each host on stdout: `")[2].partition("`")[0]

    assert listed.replace("\n", " ").split(", ") == [*_report("no").to_dicts()[0]]


@pytest.mark.parametrize("name", ["github/action.yml", "gitlab/.gitlab-ci.yml"])
def test_commands_in_ci_examples_exist(name: str) -> None:
    from ringtasks.tasks import namespace

    used = re.findall(r"ringtasks (deploy[.a-z]*)(.*)", (EXAMPLES / name).read_text())
    assert used
    for task, rest in used:
        known = {f"--{flag}" for arg in namespace[task].get_arguments() for flag in arg.names}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known


def test_report_names_the_failed_step_and_host() -> None:
    document = ET.fromstring(junit(_report("exit status 1: no\x1b[31m good \ud800")))

    suite = document[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    (failure,) = suite.iter("failure")
    assert (
        failure.get("message")
        == "exit status 1: no\N{REPLACEMENT CHARACTER}[31m good \N{REPLACEMENT CHARACTER}"
    )
    assert [case.get("classname") for case in suite.iter("testcase")] == [
        "web1",
        "web1",
        "web2",
        "web3",
        "web3",
    ]


@given(st.text())
def test_report_is_valid_xml_for_any_host_output(text: str) -> None:
    ET.fromstring(junit(_report(text)))


def test_unwritable_ci_report_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--junit .*file/deploy\.xml: "):
        write_junit(tmp_path / "file" / "deploy.xml", _report("no"))


def test_github_workflow_command_cannot_be_escaped() -> None:
    line = github.command("error", "100 %\n::set-env::", title="a,b:c")
    assert line == "::error title=a%2Cb%3Ac::100 %25%0A::set-env::"


def test_github_summary_is_a_table_with_escaped_remote_text() -> None:
    text = github.summary(_report("| <b>bold</b> `x` [a](b)"))

    rows = [line for line in text.splitlines() if line.startswith("| web")]
    assert len(rows) == 3
    assert all(row.count("|") == 7 for row in rows)
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("environ", "build"),
    [
        ({}, None),
        ({"CI": "true"}, ("CI", "", "")),
        (
            {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_SERVER_URL": "https://github.example",
                "GITHUB_REPOSITORY": "team/app",
                "GITHUB_RUN_ID": "7",
                "GITHUB_ACTOR": "ann",
            },
            ("GitHub Actions", "https://github.example/team/app/actions/runs/7", "ann"),
        ),
        (
            {
                "CI": "true",
                "GITLAB_CI": "true",
                "CI_JOB_URL": "https://gl/1",
                "GITLAB_USER_LOGIN": "b",
            },
            ("GitLab CI", "https://gl/1", "b"),
        ),
        ({"JENKINS_URL": "https://j", "BUILD_URL": "https://j/7"}, ("Jenkins", "https://j/7", "")),
    ],
)
def test_ci_system_is_detected_from_the_environment(
    environ: dict[str, str], build: tuple[str, str, str] | None
) -> None:
    assert ci.found(environ) == build
    assert ci.who(environ) == (build[2] if build and build[2] else ci.who({}))


_SECRETS = st.lists(st.text("abcdef", min_size=4, max_size=8), min_size=1, max_size=4)


@given(_SECRETS, st.lists(st.text("abcdefgh \n", max_size=20), max_size=4))
def test_shown_output_contains_no_secret(secrets: list[str], around: list[str]) -> None:
    text = "".join(part + secret for part, secret in zip(around, secrets * 4, strict=False))
    concealed = masking(secrets)(text)
    assert not any(secret in concealed for secret in secrets)


def test_each_line_of_a_secret_is_masked_unless_it_is_too_short() -> None:
    conceal = masking(["-----BEGIN\nsecret line\n", "yes"])
    assert conceal("a secret line, yes") == "a ***, yes"


def _report(error: str) -> DeployReport:
    steps = [StepReport("build", 1500.0), StepReport("check", 20.0, error, error)]
    hosts = [
        HostReport("web1", EndState.REVERTED, "old", "old", error, 1, steps),
        HostReport("web2", EndState.STAGED),
        HostReport(
            "web3",
            EndState.UNCHANGED,
            error="no",
            returncode=255,
            steps=[StepReport("precheck", 1.0), StepReport("lock", 2.0, "unreachable")],
        ),
    ]
    return DeployReport("deploy", "20260102T000000Z-def-0002", "def", "ann", "", hosts, 1700.0)
