"""docs/api.md has every public name, as it is."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import ringtasks

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()

#: What a class has for ringtasks' own sake.
OWN_USE = {
    "SSHClient": {"ask", "ask_async", "link", "perform"},
    "SSHHealth": {"after", "failed", "succeeded", "circuit_state_at", "route_state_at"},
    "SSHResult": {"for_command", "with_note"},
    "Connection": {
        *{"close_gateway", "create_session", "gateway_opener", "get_gateway", "keep_in_process"},
        *{"inline_ssh_env", "open_gateway", "remote_runner", "resolve_connect_kwargs", "route"},
    },
}
SIGNATURES = [
    line
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


def public_members(owner: type) -> set[str]:
    own = set(vars(owner))
    if dataclasses.is_dataclass(owner):
        own |= {field.name for field in dataclasses.fields(owner)}
    return {name for name in own if not name.startswith("_")} - OWN_USE.get(owner.__name__, set())


MEMBERS = [
    (name, member)
    for name in ringtasks.__all__
    if inspect.isclass(getattr(ringtasks, name))
    for member in sorted(public_members(getattr(ringtasks, name)))
]
CALLABLES = [
    *[name for name in ringtasks.__all__ if not inspect.isclass(getattr(ringtasks, name))],
    *["SSHClient", "SSHConfig", "Connection"],
    *[
        f"{name}.{member}"
        for name, member in MEMBERS
        if name != "Connection" and callable(getattr(getattr(ringtasks, name), member, None))
    ],
]


@pytest.mark.parametrize("name", CALLABLES)
def test_each_documented_signature_matches_the_code(name: str) -> None:
    (line,) = [line for line in SIGNATURES if line.startswith(f"{name}(")]

    documented, real = documented_signature(line), real_signature(name)

    assert str(documented).replace("'", "") == str(real).replace("'", "")
    assert [p.default for p in documented.parameters.values()] == [
        p.default for p in real.parameters.values()
    ]


def test_every_documented_signature_is_of_a_public_name() -> None:
    assert sorted(line.partition("(")[0] for line in SIGNATURES) == sorted(CALLABLES)


@pytest.mark.parametrize(("owner", "member"), MEMBERS)
def test_each_field_and_method_is_documented_in_the_section_of_its_class(
    owner: str, member: str
) -> None:
    section = PAGE.partition(f"\n## {owner}\n")[2].partition("\n## ")[0]

    assert f"`{member}`" in section or f"{owner}.{member}(" in section


def test_internal_members_exist_and_are_absent_from_the_api_page() -> None:
    for owner, members in OWN_USE.items():
        for member in members:
            assert hasattr(getattr(ringtasks, owner), member)
            assert f"{owner}.{member}" not in PAGE


@pytest.mark.parametrize("name", [name for name in CALLABLES if "." in name])
def test_coroutines_are_marked_as_awaitable_on_the_api_page(name: str) -> None:
    (line,) = [line for line in SIGNATURES if line.startswith(f"{name}(")]
    below = PAGE.partition(line)[2].partition("```\n\n")[2].partition("\n```")[0].lower()

    assert inspect.iscoroutinefunction(resolve(name)) <= ("awaitable" in below)


def documented_signature(line: str) -> inspect.Signature:
    """Of ``Class.name(a: int = 1) -> None``, as a function that is written like that."""
    _, parenthesis, rest = line.partition("(")
    made: dict[str, Any] = {}
    exec(f"from __future__ import annotations\ndef f{parenthesis}{rest}: ...", made)
    return inspect.signature(made["f"])


def real_signature(name: str) -> inspect.Signature:
    signature = inspect.signature(resolve(name))
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    return signature.replace(parameters=parameters)


def resolve(name: str) -> Any:
    found: Any = ringtasks
    for part in name.split("."):
        found = getattr(found, part)
    return found
