"""Tokens and variables in values of ssh_config mean what they mean to ssh."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtasks.errors import UsageError
from ringtasks.ssh.option_values import (
    expand,
    expand_path,
    expand_proxy_command,
    jump_hosts,
    token_values,
)

VALUES = token_values(
    name="box", address="192.0.2.1", port=2222, user="gpu", local_user="me", alias="pinned"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%h:%p", "192.0.2.1:2222"),
        ("%r@%n", "gpu@box"),
        ("%u %k", "me pinned"),
        ("100%%h", "100%h"),
        ("plain", "plain"),
    ],
)
def test_tokens_are_replaced(text: str, expected: str) -> None:
    assert expand(text, VALUES, "ProxyCommand") == expected


def test_variables_and_the_home_folder_are_replaced_in_a_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RT_PLACE", "50%h")

    assert expand_path("${RT_PLACE}/%r", VALUES, "IdentityFile") == "50%h/gpu"
    assert expand_path("~/%r", VALUES, "IdentityFile") == f"{Path.home()}/gpu"
    here = token_values(name="box", address="box", port=22, user="gpu")
    assert expand_path("%d/%r", here, "IdentityFile") == f"{Path.home()}/gpu"


def test_proxy_command_has_only_the_tokens_that_ssh_has_there() -> None:
    assert expand_proxy_command("nc %h %p # %r %n %%", VALUES) == "nc 192.0.2.1 2222 # gpu box %"
    with pytest.raises(UsageError, match="%u"):
        expand_proxy_command("nc %h %p %u", VALUES)


def test_tokens_are_replaced_in_each_jump_host() -> None:
    assert jump_hosts("%r@gate-%n:%p, %h", VALUES) == ["gpu@gate-box:2222", "192.0.2.1"]
    assert jump_hosts("none", VALUES) == []
    with pytest.raises(UsageError, match=r"ProxyJump gate-%u: %u"):
        jump_hosts("gate-%u", VALUES)


@pytest.mark.parametrize("text", ["%z", "%", "%C"])
def test_unknown_token_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(UsageError, match=r"ProxyCommand .*is not known before the log-in"):
        expand(text, VALUES, "ProxyCommand")


def test_unset_variable_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match=r"IdentityFile .*RT_UNSET is not set"):
        expand_path("${RT_UNSET}/key", VALUES, "IdentityFile")


def test_home_of_an_unknown_user_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match=r"IdentityFile ~rt-unknown/key: there is no such user"):
        expand_path("~rt-unknown/key", VALUES, "IdentityFile")
