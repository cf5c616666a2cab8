"""Reports of a rollout for CI: JUnit XML, GitHub's commands and summary, user and link."""

from __future__ import annotations

import html
import os
import re
import socket
import stat
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.common.rehearsal import rehearsing
from ringtasks.deploy.report import DeployReport, EndState, HostReport, StepReport
from ringtasks.deploy.rollout import Action
from ringtasks.errors import UsageError
from ringtasks.output import ci, github
from ringtasks.output.junit import junit, prepare_junit, write_junit
from ringtasks.output.rollout import RolloutView

MEBIBYTE = 1024 * 1024
REPLACED = "\N{REPLACEMENT CHARACTER}"

#: Remote text at its worst: a bell, a surrogate, a non-character, the end of a CDATA section.
WORST = "a\x07b\ud800c\uffffd ]]> <x> &amp; \x1b[31mred"


def report(*hosts: HostReport) -> DeployReport:
    link = "https://ci.example/7"
    return DeployReport("deploy", "20261123-1", "abc1234", "ann@laptop", link, [*hosts], 1500.0)


def deployed(name: str, output: str = "") -> HostReport:
    steps = [StepReport("upload", 250.0), StepReport("check", 1000.0, None, output)]
    return HostReport(name, EndState.DEPLOYED, "1", "2", steps=steps)


def failed(name: str, error: str = "exit status 3", output: str = "", code: int = 1) -> HostReport:
    steps = [StepReport("upload", 250.0), StepReport("check", 1000.0, error, output)]
    return HostReport(name, EndState.REVERTED, "1", "1", error, code, steps=steps)


def cases(report: DeployReport) -> dict[tuple[str, str], ET.Element]:
    found = ET.fromstring(junit(report)).iter("testcase")
    return {(case.attrib["classname"], case.attrib["name"]): case for case in found}


def test_reports_of_a_rehearsal_are_marked() -> None:
    with rehearsing("direct=down"):
        suite = ET.fromstring(junit(report(deployed("h1"))))[0]
        heading = github.summary(report(deployed("h1"))).splitlines()[0]

    assert suite.attrib["name"] == "rehearsal of deploy"
    properties = {each.attrib["name"]: each.attrib["value"] for each in suite.iter("property")}
    assert properties["rehearsal"] == "direct=down"
    assert "REHEARSAL" in heading
    assert "rehearsal" not in junit(report(deployed("h1")))


class TestJunit:
    def test_junit_has_a_case_for_each_step_of_each_host(self) -> None:
        found = cases(report(deployed("h1"), deployed("h2")))

        assert list(found) == [(h, s) for h in ("h1", "h2") for s in ("upload", "check")]
        assert found["h1", "check"].get("time") == "1.000"

    def test_junit_suite_counts_its_cases(self) -> None:
        lost = failed("h2", "link lost", code=255)
        root = ET.fromstring(junit(report(failed("h1"), lost, HostReport("h3"))))

        for element in (root, root[0]):
            counts = {"tests": "5", "failures": "1", "errors": "1", "skipped": "1"}
            assert element.attrib.items() >= {**counts, "time": "1.500"}.items()
        assert [child.tag for child in root[0]] == ["properties"] + ["testcase"] * 5

    def test_junit_case_names_are_stable(self) -> None:
        one, other = report(deployed("h1")), report(failed("h1"))
        other.release, other.revision = "20261124-9", "def"

        suites = [ET.fromstring(junit(each))[0].get("name") for each in (one, other)]

        assert cases(one).keys() == cases(other).keys()
        assert suites == ["deploy", "deploy"]

    def test_junit_properties_hold_release_revision_and_link(self) -> None:
        found = ET.fromstring(junit(report(deployed("h1")))).iter("property")

        assert {each.get("name"): each.get("value") for each in found} == {
            "release": "20261123-1", "revision": "abc1234",
            "who": "ann@laptop", "link": "https://ci.example/7",
        }  # fmt: skip

    def test_junit_failure_text_has_the_error_and_the_output(self) -> None:
        case = cases(report(failed("h1", output="Traceback\n  no such table")))["h1", "check"]

        fault = case.find("failure")

        assert fault is not None
        assert fault.attrib == {"message": "exit status 3", "type": "reverted"}
        assert fault.text == "exit status 3\n\nTraceback\n  no such table\n\nh1: reverted"
        assert case.find("system-out") is None

    def test_successful_junit_case_has_its_output(self) -> None:
        case = cases(report(deployed("h1", "all\r\nwell")))["h1", "check"]

        assert case.findtext("system-out") == "all\nwell"

    @pytest.mark.parametrize(("code", "tag"), [(1, "failure"), (75, "failure"), (255, "error")])
    def test_unknown_outcome_is_reported_as_an_error_case(self, code: int, tag: str) -> None:
        case = cases(report(failed("h1", code=code)))["h1", "check"]

        assert [child.tag for child in case] == [tag]

    def test_unreachable_host_has_its_own_junit_case(self) -> None:
        lost = HostReport("h1", error="unreachable", returncode=255)

        case = cases(report(lost))["h1", "deploy"]

        assert [child.get("message") for child in case.iter("error")] == ["unreachable"]

    @pytest.mark.parametrize("end_state", [EndState.UNCHANGED, EndState.STAGED])
    def test_host_never_switched_is_a_skipped_junit_case(self, end_state: EndState) -> None:
        case = cases(report(HostReport("h1", end_state)))["h1", "switch"]

        assert [(child.tag, child.get("message")) for child in case] == [("skipped", end_state)]

    def test_repeated_step_has_two_junit_case_names(self) -> None:
        again = HostReport("h1", EndState.REVERTED, steps=[StepReport("switch", 1.0)] * 3)

        assert [name for _, name in cases(report(again))] == ["switch", "switch 2", "switch 3"]

    def test_characters_invalid_in_xml_are_replaced_visibly(self) -> None:
        made = report(failed(WORST, error=WORST, output=WORST), deployed("ok", WORST))
        made.who = WORST

        text = junit(made)
        found = cases(made)

        shown = WORST.translate(dict.fromkeys(map(ord, "\a\ud800\uffff\x1b"), REPLACED))
        assert text.encode()
        assert found[shown, "check"][0].get("message") == shown
        assert found["ok", "check"].findtext("system-out") == shown

    @given(st.text(st.characters()))
    def test_any_text_gives_well_formed_xml(self, text: str) -> None:
        host = failed(text, error=text, output=text)
        host.steps.append(StepReport(text, 1.0))

        ET.fromstring(junit(report(host)).encode())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestJunitFile:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "reports").mkdir()
        return tmp_path / "reports"

    def test_report_directory_is_created_and_the_report_is_world_readable(
        self, folder: Path
    ) -> None:
        path = folder / "a" / "b" / "deploy.xml"

        write_junit(path, report(deployed("h1")))

        assert path.read_text() == junit(report(deployed("h1")))
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def test_open_reader_keeps_the_complete_old_report(self, folder: Path) -> None:
        path = folder / "deploy.xml"
        path.write_text("old")

        with path.open() as reader:
            write_junit(path, report(deployed("h1")))

            assert reader.read() == "old"
        assert names(folder) == ["deploy.xml"]

    @pytest.mark.parametrize("act", [prepare_junit, lambda path: write_junit(path, report())])
    @pytest.mark.parametrize("place", ["file/deploy.xml", "folder"])
    def test_unwritable_report_is_reported_and_leaves_no_file(
        self, folder: Path, act: object, place: str
    ) -> None:
        (folder / "file").touch()
        (folder / "folder").mkdir()

        with pytest.raises(UsageError, match=rf"--junit .*{place}: \w"):
            act(folder / place)  # type: ignore[operator]  # both take a path

        assert names(folder) == ["file", "folder"]

    def test_preparing_a_report_does_not_change_an_old_file(self, folder: Path) -> None:
        path = folder / "deploy.xml"
        path.write_text("old")

        prepare_junit(path)

        assert path.read_text() == "old"
        assert names(folder) == ["deploy.xml"]


#: The commands of actions/runner that a line could give.
COMMANDS = (
    "add-mask|add-matcher|debug|echo|endgroup|error|group|notice|save-state|stop-commands|warning"
)


def obeyed(line: str) -> bool:
    """As ``TryParseV2`` and ``TryParse`` of ActionCommand.cs, for a culture that passes over
    everything beyond ASCII."""
    heard = re.sub(r"[^ -~\t]", "", line)
    new = re.match(rf"\s*::({COMMANDS})( .*?)?::", heard)
    return bool(new or re.search(rf"##\[({COMMANDS})( [^]]*)?\]", heard))


class TestGithubCommands:
    def test_workflow_command_text_and_properties_are_escaped(self) -> None:
        line = github.command("error", "100% of it\nis, well: gone", title="h1: 50%, then")

        assert line == "::error title=h1%3A 50%25%2C then::100%25 of it%0Ais, well: gone"

    @pytest.mark.parametrize(
        "line",
        [
            "::error::x", "  \t::add-mask::a", "\u00a0::stop-commands::x", "\u200b::error::x",
            ":\u034f:error::x", "h1: ##[error]x", "a####[add-mask]x", "#\ufe0f#[group]x",
            "::error file=a,line=1::x",
        ],
    )  # fmt: skip
    def test_workflow_command_in_host_output_is_neutralised(self, line: str) -> None:
        assert obeyed(line)
        assert not obeyed(github.harmless(line))

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
    def test_workflow_command_on_any_line_is_neutralised(self, end: str) -> None:
        text = github.harmless(f"fine{end}::error::x{end} ::debug::y")

        assert text == f"fine{end}| ::error::x{end}|  ::debug::y"

    @given(
        st.text("#[:] \t\u200ba"), st.sampled_from(["::error::", "##[error]", ":\u200b:error::"])
    )
    def test_workflow_command_after_any_prefix_is_neutralised(
        self, before: str, command: str
    ) -> None:
        assert not obeyed(github.harmless(before + command))

    @pytest.mark.timeout(20)  # it takes milliseconds, and hours if each pair of places is tried
    @pytest.mark.parametrize("run", ["\n", "\u0301", "\t"])
    def test_long_run_after_the_beginning_of_a_command_is_read_once(self, run: str) -> None:
        text = "##" + run * 300_000

        assert github.harmless(text) == text

    @given(st.text())
    def test_neutralising_text_is_idempotent(self, text: str) -> None:
        assert github.harmless(github.harmless(text)) == github.harmless(text)

    @pytest.mark.parametrize(
        "line", ["std::string x;", "a: b", "# title", "issue #7 [bug]", "1::2"]
    )
    def test_lines_without_workflow_commands_are_unchanged(self, line: str) -> None:
        assert github.harmless(line) == line


class TestGithubReport:
    def test_hosts_with_the_same_failure_share_one_annotation(self) -> None:
        made = report(failed("h1"), failed("h2"), failed("h3", "exit status 4"), deployed("h4"))

        assert github.faults(made) == [
            "::error title=h[1-2] (2)%3A reverted::exit status 3",
            "::error title=h3%3A reverted::exit status 4",
        ]

    def test_annotations_beyond_the_github_limit_are_counted(self) -> None:
        made = report(*(failed(f"h{number}", f"exit status {number}") for number in range(1, 13)))

        lines = github.faults(made)

        assert len(lines) == 10
        assert lines[-1].endswith("::3 more hosts failed: see the summary of this step")

    def test_annotation_keeps_line_breaks_and_drops_control_characters(self) -> None:
        (line,) = github.faults(report(failed("h1", "a\x1b[0m\r\n::error::b")))

        assert line == f"::error title=h1%3A reverted::a{REPLACED}[0m%0A::error::b"

    def test_summary_is_a_table_of_hosts_with_failed_hosts_first(self) -> None:
        made = report(deployed("h1"), failed("h2"))

        assert html.unescape(github.summary(made)).split("\n") == [
            "### ❌ deploy 20261123-1: 1 of 2 hosts",
            "",
            "Revision abc1234, by ann@laptop, in 1.5 s.",
            "",
            "| host | state | before | now | time | error |",
            "| --- | --- | --- | --- | ---: | --- |",
            "| h2 | reverted | 1 | 1 | 1.2 s | exit status 3 |",
            "| h1 | deployed | 1 | 2 | 1.2 s |  |",
            "", "",
        ]  # fmt: skip

    def test_host_text_in_the_summary_has_no_markup(self) -> None:
        evil = "<img src=x> | [a](http://b) `c` **d** @e\n\n# f \\| ~~g~~ www.h.example"

        row = github.summary(report(failed("h1", error=evil))).split("\n")[6]

        *_, cell, end = row.split(" |")
        assert row.count("|") == 7
        assert not re.search(r"[^\w\s&#;]|#(?!\d+;)", cell)
        assert html.unescape(cell).strip() == evil.replace("\n", " ")
        assert end == ""

    def test_long_summary_is_cut_at_whole_hosts_with_a_note(self) -> None:
        made = report(*(failed(f"h{number}") for number in range(100)))

        text = github.summary(made, limit_bytes=2000)

        assert len(text.encode()) <= 2000
        shown = text.count("exit status 3")
        assert 0 < shown < 100
        assert text.endswith(f"\n\n… and {100 - shown} hosts more.\n\n")

    def test_summary_of_20000_hosts_stays_below_the_step_limit(self, tmp_path: Path) -> None:
        made = report(*(failed(f"host-{number}") for number in range(20_000)))
        path = tmp_path / "summary"
        path.write_text("of an earlier command\n" * 1000)

        github.write_summary(made, {"GITHUB_STEP_SUMMARY": str(path)})

        assert MEBIBYTE - 500 < path.stat().st_size <= MEBIBYTE
        assert path.read_text().startswith("of an earlier command\n")

    @pytest.mark.parametrize("left", [0, 50, 200])
    def test_summary_that_exceeds_the_remaining_space_is_not_written(
        self, tmp_path: Path, left: int
    ) -> None:
        path = tmp_path / "summary"
        path.write_bytes(b"x" * (MEBIBYTE - left))

        is_added = github.write_summary(report(failed("a")), {"GITHUB_STEP_SUMMARY": str(path)})

        assert not is_added
        assert path.stat().st_size == MEBIBYTE - left

    def test_pipe_in_the_place_of_the_summary_file_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "summary")

        with pytest.raises(OSError, match="No such device"):
            github.write_summary(report(), {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")})

    def test_summary_is_not_written_without_a_step_summary_file(self) -> None:
        github.write_summary(report(), {"GITHUB_ACTIONS": "true"})


class TestRolloutView:
    """The output of `inv deploy` while it runs."""

    def shown(
        self, capfdbinary: pytest.CaptureFixture[bytes], environ: dict[str, str]
    ) -> list[str]:
        view = RolloutView(is_verbose=True, environ=environ)
        view.began(report(), ["s3cret"])
        view.action_began(Action.STAGE, ["h1"])
        view.output("h1", b"##[stop-commands]x\n::debug::y\n")
        view.step_ended("h1", StepReport("build", 1.0, "##[error]z"))
        view.action_ended(Action.STAGE)
        view.ended(report(failed("h1", error="##[add-mask]h1")))
        return capfdbinary.readouterr().err.decode().splitlines()

    def test_only_workflow_commands_of_ringtasks_take_effect(
        self, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        lines = self.shown(capfdbinary, {"GITHUB_ACTIONS": "true"})

        assert [line for line in lines if obeyed(line)] == [
            "::add-mask::s3cret",
            "::group::stage: 1 host",
            "::endgroup::",
            "::error title=h1%3A reverted::##[add-mask]h1",
        ]

    def test_output_is_unchanged_outside_ci(
        self, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        lines = self.shown(capfdbinary, {})

        assert "h1: ##[stop-commands]x" in lines
        assert not [line for line in lines if line.startswith("::")]


GITHUB = {
    "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "7", "GITHUB_ACTOR": "ann",
}  # fmt: skip
AZURE = {
    "TF_BUILD": "True", "SYSTEM_COLLECTIONURI": "https://dev.azure.com/o/",
    "SYSTEM_TEAMPROJECT": "our project", "BUILD_BUILDID": "7", "BUILD_REQUESTEDFOR": "Ann",
}  # fmt: skip


class TestCI:
    @pytest.mark.parametrize(
        ("environ", "name", "link", "actor"),
        [
            (GITHUB, "GitHub Actions", "https://github.com/o/r/actions/runs/7", "ann"),
            ({**GITHUB, "GITHUB_RUN_ATTEMPT": "2", "GITHUB_TRIGGERING_ACTOR": "bob"},
             "GitHub Actions", "https://github.com/o/r/actions/runs/7/attempts/2", "bob"),
            ({"GITHUB_ACTIONS": "true"}, "GitHub Actions", "", ""),
            ({"GITLAB_CI": "true", "CI_JOB_URL": "https://gl/j/1", "GITLAB_USER_LOGIN": "ann"},
             "GitLab CI", "https://gl/j/1", "ann"),
            ({"JENKINS_URL": "http://j/", "BUILD_URL": "http://j/1/", "BUILD_USER_ID": "ann"},
             "Jenkins", "http://j/1/", "ann"),
            ({"BUILDKITE": "true", "BUILDKITE_BUILD_URL": "https://bk/1",
              "BUILDKITE_BUILD_CREATOR": "Ann"}, "Buildkite", "https://bk/1", "Ann"),
            ({"CIRCLECI": "true", "CIRCLE_BUILD_URL": "https://cc/1", "CIRCLE_USERNAME": "ann"},
             "CircleCI", "https://cc/1", "ann"),
            (AZURE, "Azure Pipelines",
             "https://dev.azure.com/o/our%20project/_build/results?buildId=7", "Ann"),
            ({"GITLAB_CI": "true", "CI_JOB_URL": "javascript:alert(1)"}, "GitLab CI", "", ""),
            ({"CI": "true"}, "CI", "", ""),
            ({"CI": "1"}, "CI", "", ""),
        ],
    )  # fmt: skip
    def test_each_ci_system_gives_its_name_link_and_actor(
        self, environ: dict[str, str], name: str, link: str, actor: str
    ) -> None:
        assert ci.found(environ) == (name, link, actor)

    @pytest.mark.parametrize("environ", [{}, {"CI": ""}, {"CI": "false"}, {"CI": "0"}])
    def test_no_ci_build_is_detected_outside_ci(self, environ: dict[str, str]) -> None:
        assert ci.found(environ) is None

    def test_deploy_user_is_the_ci_actor(self) -> None:
        assert ci.who({**GITHUB, "USER": "runner"}) == "ann"

    @pytest.mark.parametrize("environ", [{"USER": "ann"}, {"CI": "true", "LOGNAME": "ann"}])
    def test_deploy_user_without_a_ci_actor_is_the_local_user(
        self, environ: dict[str, str]
    ) -> None:
        assert ci.who(environ) == f"ann@{socket.gethostname()}"

    def test_user_without_a_name_is_shown_by_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A container's arbitrary user, which no test can become without being root.
        monkeypatch.setattr("os.getuid", lambda: 54321)

        assert ci.who({}).startswith("uid54321@")
