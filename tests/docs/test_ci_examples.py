"""The examples for CI are safe, and their steps do what they say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringtasks.deploy.report import DeployReport, HostReport
from ringtasks.tasks import namespace
from tests.support.fixtures import ROOT

PAGE = (ROOT / "docs" / "ci.md").read_text()
WORKFLOW, ACTION, GITLAB = FILES = (
    "examples/ci/github/deploy.yml",
    "examples/ci/github/action.yml",
    "examples/ci/gitlab/.gitlab-ci.yml",
)
#: A ringtasks that says what it was called with, and waits for a signal where it is told to.
STAND_IN = """#!/bin/sh
trap 'echo interrupted >>"$LOG"; exit 130' TERM
printf '<%s>' "$@" >>"$LOG"; echo >>"$LOG"
for _ in $WAIT; do sleep 0.1; done
"""


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        (WORKFLOW, ["vendor.github-workflows"]),
        (WORKFLOW, ["custom.github-workflows-require-timeout"]),
        (ACTION, ["vendor.github-actions"]),
        (GITLAB, ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
)
def test_ci_examples_are_valid_and_have_time_limits(name: str, schema: list[str]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, name]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FILES)
def test_docs_include_the_ci_examples_verbatim(name: str) -> None:
    quoted = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

    assert (ROOT / name).read_text() in quoted


def test_docs_list_the_json_fields_of_a_deploy() -> None:
    report = DeployReport("deploy", "20261123-1", "abc1234", "ann", "", [HostReport("h1")])

    listed = PAGE.partition("one object for each host on stdout: `")[2].partition("`")[0]

    assert listed.replace("\n", " ").split(", ") == [*report.to_dicts()[0]]


@pytest.mark.parametrize("name", [ACTION, GITLAB])
def test_commands_in_ci_examples_exist(name: str) -> None:
    used = re.findall(r"ringtasks (deploy[.a-z]*)(.*)", (ROOT / name).read_text())

    assert used
    for task, rest in used:
        known = {f"--{flag}" for arg in namespace[task].get_arguments() for flag in arg.names}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known


@pytest.mark.parametrize("name", FILES)
def test_ci_examples_do_not_disable_host_key_checking(name: str) -> None:
    assert "StrictHostKeyChecking" not in (ROOT / name).read_text()


def test_github_workflow_is_read_only_and_runs_one_deploy_at_a_time() -> None:
    workflow = read(WORKFLOW)

    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"] == {"group": "deploy-production", "cancel-in-progress": False}


@pytest.mark.parametrize("name", ["deploy", "rollback"])
def test_gitlab_deploy_jobs_run_one_at_a_time(name: str) -> None:
    assert read(GITLAB)[name]["resource_group"] == "production"


def test_workflow_passes_valid_inputs_to_the_action() -> None:
    action = read(ACTION)
    used = read(WORKFLOW)["jobs"]["deploy"]["steps"][-1]

    assert used["uses"] == "./.github/actions/deploy"
    assert set(used["with"]) <= set(action["inputs"])
    assert used["env"]["RINGTASKS_SSH_KEY"] == "${{ secrets.RINGTASKS_SSH_KEY }}"


def test_each_action_is_pinned_to_a_version() -> None:
    steps = read(WORKFLOW)["jobs"]["deploy"]["steps"] + read(ACTION)["runs"]["steps"]

    used = [step["uses"] for step in steps if "uses" in step]

    assert all(re.search(r"@v\d+$", name) or name.startswith("./") for name in used)


class TestSteps:
    """The steps of the action, run as a runner of GitHub's runs them."""

    @pytest.fixture
    def environ(self, tmp_path: Path) -> dict[str, str]:
        program = tmp_path / "bin" / "ringtasks"
        program.parent.mkdir()
        program.write_text(STAND_IN)
        program.chmod(0o755)
        path = f"{program.parent}:{os.environ['PATH']}"
        return {"PATH": path, "LOG": str(tmp_path / "log"), "REF": "abc"}

    def start(self, name: str, environ: dict[str, str]) -> subprocess.Popen[bytes]:
        (step,) = (one for one in read(ACTION)["runs"]["steps"] if one.get("name") == name)
        script = Path(environ["LOG"]).with_name("step.sh")
        # In a run, an expression would put text of others into the script: they go by env.
        assert "${{" not in step["run"]
        script.write_text(step["run"] + "\n")
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script]
        return subprocess.Popen(command, env=environ)

    @pytest.mark.parametrize(
        ("hosts", "flag"), [("", ""), ("@web,!web 9;$(id)", "<--host><@web,!web 9;$(id)>")]
    )
    def test_ci_examples_check_and_deploy_on_the_intended_hosts(
        self, environ: dict[str, str], hosts: str, flag: str
    ) -> None:
        for name in ("Check", "Deploy"):
            assert self.start(name, {**environ, "HOSTS": hosts}).wait(30) == 0

        told = Path(environ["LOG"]).read_text().splitlines()
        assert told == [
            f"<deploy.check>{flag}",
            f"<deploy><--ref><abc><--junit><deploy.xml>{flag}",
        ]

    @pytest.mark.parametrize("name", ["Check", "Deploy"])
    def test_cancelled_ci_run_delivers_its_signal_to_ringtasks(
        self, environ: dict[str, str], name: str
    ) -> None:
        log, deadline = Path(environ["LOG"]), time.monotonic() + 30
        process = self.start(name, {**environ, "WAIT": "again " * 300})
        try:
            while not log.exists() or not log.read_text().endswith("\n"):
                assert time.monotonic() < deadline
                time.sleep(0.01)

            process.send_signal(signal.SIGTERM)

            assert process.wait(30) == 130
            assert log.read_text().endswith("\ninterrupted\n")
        finally:
            process.kill()
            process.wait()
