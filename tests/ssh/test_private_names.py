"""The private names of Paramiko, Fabric and Invoke that ringtasks uses.

Their releases may drop these names without notice: pyproject.toml bounds the versions, and these
tests fail when a name goes, or when the package uses one that is not in the table.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import fabric
import invoke
import paramiko
import pytest
from paramiko.agent import AgentSSH
from paramiko.auth_handler import AuthHandler
from paramiko.sftp import BaseSFTP

import ringtasks

PACKAGE = Path(ringtasks.__file__).parent
LIBRARIES = ("paramiko", "fabric", "invoke")
STANDARD_LIBRARY = {"_asdict", "_exit", "_getframe", "_replace"}

NAMES: dict[type, set[str]] = {
    paramiko.Transport: {
        "_active_check_timeout", "_channel_handler_table", "_handler_table", "_parse_debug",
        "_parse_disconnect", "_parse_kex_init", "_really_parse_kex_init", "_send_message",
        "_send_user_message",
    },
    AuthHandler: {
        "_parse_service_accept", "_parse_userauth_banner", "_parse_userauth_failure",
        "_request_auth",
    },
    AgentSSH: {"_connect"},
    paramiko.Channel: {"_event_pending", "_handle_request"},
    BaseSFTP: {"_read_packet", "_send_packet"},
    paramiko.SFTPClient: {
        "_adjust_cwd", "_async_request", "_convert_status", "_expecting", "_lock",
        "_read_response", "_request",
    },
    paramiko.SFTPFile: {"_async_response", "_close", "_read", "_write"},
    paramiko.file.BufferedFile: {"_closed", "_pos", "_rbuffer", "_realpos"},
    paramiko.SFTPAttributes: {"_from_msg"},
    paramiko.SSHConfig: {"_config"},
    fabric.Connection: {"_agent_handler", "_remote_runner", "_set", "_sftp"},
    fabric.Config: {"_runtime_ssh_path", "_set"},
    invoke.Config: {"_load_py"},
    invoke.Runner: {"_asynchronous", "_timer"},
    invoke.Task: {"_name"},
}  # fmt: skip


def names_of(kind: type) -> set[str]:
    """The private attributes of a class and of what it assigns to its objects."""
    found = set(dir(kind))
    for base in kind.__mro__:
        if base.__module__.split(".")[0] in LIBRARIES:
            found |= set(re.findall(r"self\.(_\w+)[^=\n]*=(?!=)", inspect.getsource(base)))
    return set(filter(is_private, found))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def foreign_names() -> Iterator[tuple[str, str]]:
    """Module and name of each private attribute that the package itself does not define."""
    trees = {file: ast.parse(file.read_text()) for file in PACKAGE.rglob("*.py")}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    own = {node.name for node in nodes if isinstance(node, definitions)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name)}
    own |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
                yield file.stem, node.attr


def inherited_names() -> Iterator[tuple[str, str]]:
    """Class and name of each private attribute that a subclass overrides or reads."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "ringtasks."):
        for kind in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(kind) or kind.__module__ != module.name:
                continue
            bases = [base for base in kind.__mro__ if base.__module__.split(".")[0] in LIBRARIES]
            theirs = set().union(*map(names_of, bases)) if bases else set()
            if theirs:
                tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
                used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
                for name in (used | set(vars(kind))) & theirs:
                    yield kind.__name__, name


@pytest.mark.parametrize("kind", NAMES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_private_names_that_are_used_exist(kind: type) -> None:
    assert NAMES[kind] - names_of(kind) == set()


def test_no_other_private_name_is_used() -> None:
    known = set().union(*NAMES.values()) | STANDARD_LIBRARY

    others = {use for use in (*foreign_names(), *inherited_names()) if use[1] not in known}

    assert others == set()
