"""Settings are declared once, with their checks; errors name the place; the docs list all."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringtasks.common.setting_checks import count, text
from ringtasks.common.settings import Place, Section, flag_of, nested, read, setting, settings_of
from ringtasks.deploy.settings import DeploySettings, Hooks
from ringtasks.deploy.settings import parse as parse_deploy
from ringtasks.errors import UsageError
from ringtasks.tasks import deploy as deploy_tasks
from ringtasks.tasks import train as train_task
from ringtasks.training.settings import Preflight, TrainSettings
from ringtasks.training.settings import parse as parse_train

DOCS = Path(__file__).parents[2] / "docs"
#: The flags of the tasks that override no setting.
OWN_FLAGS = {
    "train": {"attach", "env-file", "inventory", "rehearse"},
    "deploy": {"wait", "dry-run", "diff", "junit", "verbose", "json", "inventory", "rehearse"},
}
SECTIONS = {
    "deploy": (DeploySettings, Hooks),
    "training": (TrainSettings, Preflight),
}


@dataclass(frozen=True)
class Inner:
    word: str = setting(text, "x")


@dataclass(frozen=True)
class Example:
    hosts: str = setting(text, flag="--host")
    keep: int = setting(count(1), 5)
    token: str = setting(text, "", is_secret=True)
    inner: Inner = setting(nested(Inner), default_factory=Inner)


def place_of(names: tuple[str, ...]) -> Place | None:
    lines = {("keep",): Place("a.yaml:3", ("010",)), ("inner", "word"): Place("a.yaml:5")}
    return lines.get(names)


def test_several_hosts_are_given_as_a_text_or_a_list() -> None:
    for hosts in ("@web,!web9", ["@web", "!web9"]):
        assert parse_deploy({"hosts": hosts, "path": "app"}).hosts == "@web,!web9"
        assert parse_train({"hosts": hosts, "command": "x"}).hosts == "@web,!web9"
    with pytest.raises(UsageError, match="deploy: hosts: expected a selector"):
        parse_deploy({"hosts": [], "path": "app"})


@pytest.mark.parametrize(
    ("given", "flags", "said"),
    [
        ({"keep": 0}, {}, "a.yaml:3: x: keep: expected a whole number, at least 1, found 0"),
        ({"keep": 8}, {}, "a.yaml:3: x: keep: expected a number in plain digits"),
        ({"keep": 8}, {"keep": 0}, "--keep: expected a whole number"),
        ({"inner": {"word": 1}}, {}, "a.yaml:5: x: inner: word: expected text"),
        ({"inner": {"wrod": "a"}}, {}, "x: inner: wrod: is not a setting; did you mean word?"),
        ({"inner": []}, {}, "x: inner: expected a mapping of word"),
        ({"hots": "a"}, {}, "x: hots: is not a setting; did you mean hosts?"),
        (
            {"hosts": None},
            {},
            "x: hosts: is not set: give --host, or set it under 'x:' in invoke.yaml",
        ),
    ],
)
def test_an_error_names_file_line_section_and_field(
    given: dict[str, Any], flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        read(Example, "x", Section({"hosts": "a", **given}, place_of), **flags)


def test_a_secret_is_shown_neither_in_an_error_nor_in_repr() -> None:
    with pytest.raises(UsageError) as caught:
        read(Example, "x", {"hosts": "a", "token": ["s3cret"]})

    assert str(caught.value) == "x: token: expected text (in quotes, if it looks like a number)"
    assert "s3cret" not in repr(read(Example, "x", {"hosts": "a", "token": "s3cret"}))


@pytest.mark.parametrize("owner", [owner for owners in SECTIONS.values() for owner in owners])
def test_each_field_is_declared_as_a_setting(owner: type) -> None:
    assert set(settings_of(owner)) == {f.name for f in fields(owner)}


@pytest.mark.parametrize(
    ("task", "owner", "body"),
    [
        ("train", TrainSettings, train_task.train),
        ("deploy", DeploySettings, deploy_tasks.run),
    ],
)
def test_task_flags_match_the_declared_settings(task: str, owner: type, body: Any) -> None:
    parameters = list(inspect.signature(body.body).parameters)[1:]
    flags = {"--" + name.replace("_", "-") for name in parameters}
    declared = {flag for f in settings_of(owner).values() if (flag := flag_of(f))}

    own = {f"--{name}" for name in OWN_FLAGS[task]}
    assert {flag.replace("--no-", "--") for flag in declared} == flags - own


@pytest.mark.parametrize("page", SECTIONS)
def test_documentation_lists_each_setting_with_its_default(page: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", (DOCS / f"{page}.md").read_text(), re.M))

    for owner in SECTIONS[page]:
        for name, declared in settings_of(owner).items():
            assert name in rows, f"docs/{page}.md has no row for {name}"
            if isinstance(declared.default, (int, float, str)):
                written = rows[name].strip("`")
                assert yaml.safe_load(written) == declared.default, name
            elif declared.default is MISSING and declared.default_factory is MISSING:
                assert rows[name] == "required", name
