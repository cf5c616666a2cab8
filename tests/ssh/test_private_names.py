"""The private names of Paramiko, Fabric and Invoke that ringtasks uses.

Their releases may drop these names without notice: pyproject.toml bounds the versions, and these
tests fail when a name goes, or when a module other than the library's adapter uses one.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ringtasks
from ringtasks.ssh import paramiko_private
from ringtasks.ssh.inprocess import fabric_private
from ringtasks.tasks import invoke_private

PACKAGE = Path(ringtasks.__file__).parent
LIBRARIES = ("paramiko", "fabric", "invoke")
STANDARD_LIBRARY = {"_asdict", "_current_frames", "_exit", "_getframe", "_replace"}

#: Each holds the private names of its library, and the calls of them.
ADAPTERS = (paramiko_private, fabric_private, invoke_private)
NAMES: dict[type, set[str]] = {k: v for adapter in ADAPTERS for k, v in adapter.NAMES.items()}


@functools.cache
def names_of(kind: type) -> set[str]:
    """The private attributes of a class and of what it assigns to its objects."""
    found = set(dir(kind))
    for base in kind.__mro__:
        if base.__module__.split(".")[0] in LIBRARIES:
            found |= set(
                re.findall(
                    r"(?:(?<=self\.)|(?<=_set\())_\w+(?=[^=\n]*=(?!=))", inspect.getsource(base)
                )
            )
    return set(filter(is_private, found))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def modules() -> Iterator[Path]:
    """The files of the package, without the adapters."""
    adapters = {Path(str(adapter.__file__)) for adapter in ADAPTERS}
    return (file for file in PACKAGE.rglob("*.py") if file not in adapters)


def private_attributes(tree: ast.AST) -> Iterator[ast.Attribute]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and is_private(n.attr))


def foreign_names() -> Iterator[tuple[str, str]]:
    """Module and name of each private attribute that the package itself does not define."""
    own: set[str] = set()
    read: set[tuple[str, str]] = set()
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Attribute(attr=name, ctx=ast.Load()) if is_private(name):
                    read.add((file.stem, name))
                case ast.Attribute(attr=name) | ast.Name(id=name):
                    own.add(name)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    own.add(name)
                case ast.ClassDef(name=name):
                    own.add(name)
    return (use for use in read if use[1] not in own)


def quoted_names() -> Iterator[tuple[str, str]]:
    """Module and text of each listed name that is given to `getattr` or the like."""
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and node.value in LISTED:
                yield file.stem, node.value


def inherited_names() -> Iterator[tuple[str, str]]:
    """Class and name of each private attribute that a subclass overrides or reads."""
    for file in modules():
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for kind in vars(importlib.import_module(name.removesuffix(".__init__"))).values():
            if not inspect.isclass(kind) or kind.__module__ != name:
                continue
            bases = [base for base in kind.__mro__ if base.__module__.split(".")[0] in LIBRARIES]
            theirs = set().union(*map(names_of, bases)) if bases else set()
            if theirs:
                tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
                defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
                used = {node.attr for node in private_attributes(tree)}
                for attribute in (used | defined) & theirs:
                    yield kind.__name__, attribute


LISTED = set().union(*NAMES.values())


@pytest.mark.parametrize("kind", NAMES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_private_names_used_by_adapters_exist(kind: type) -> None:
    assert NAMES[kind] - names_of(kind) == set()


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: str(adapter.__name__))
def test_an_adapter_lists_each_name_that_it_uses(adapter: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(adapter))
    overridden = set().union(
        *(kind.PRIVATE.values() for kind in vars(adapter).values() if hasattr(kind, "PRIVATE"))
    )
    used = {node.attr for node in private_attributes(tree)} | overridden

    assert used - set().union(*adapter.NAMES.values()) == set()


def test_no_other_module_uses_a_private_name() -> None:
    others = {
        use for use in (*foreign_names(), *inherited_names()) if use[1] not in STANDARD_LIBRARY
    } | {*quoted_names()}

    assert others == set()


@pytest.mark.parametrize("source", ["client._request(1)", "self._realpos", "x._handler_table"])
def test_private_name_used_in_another_module_is_detected(source: str) -> None:
    [attribute] = private_attributes(ast.parse(source))

    assert attribute.attr in LISTED
