"""Dataclasses that are made without code of their own, beside those of `dataclasses`."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import typing
from collections.abc import Callable

import pytest

from ringtasks.common.light_dataclass import dataclass
from ringtasks.inventory.model import HostConfig


class _Fields:
    first: int
    second: str = "two"
    third: list[int] = dataclasses.field(default_factory=list, hash=False)
    fourth: int = dataclasses.field(default=4, kw_only=True, repr=False)
    fifth: int = dataclasses.field(default=5, init=False, compare=False)


def of(decorate: typing.Any) -> typing.Any:
    body = {
        "__annotations__": _Fields.__annotations__,
        "__module__": __name__,
        "__doc__": "A text.",
    }
    names = [name for name in _Fields.__annotations__ if hasattr(_Fields, name)]
    body |= {name: copy.copy(getattr(_Fields, name)) for name in names}
    return decorate(type("Made", (), body))


Made = of(dataclass(frozen=True))  # pickles are found by this name
KINDS = [
    (Made, of(dataclasses.dataclass(frozen=True))),
    (of(dataclass()), of(dataclasses.dataclass)),
]

CALLS: list[tuple[tuple[object, ...], dict[str, object]]] = [
    ((1,), {}),
    ((1, "b", [3]), {"fourth": 0}),
    ((), {"first": 5, "second": "b"}),
    ((), {}),
    ((1, "b", [], 4), {}),
    ((1,), {"first": 2}),
    ((1,), {"fifth": 2}),
    ((1,), {"sixth": 2}),
]


def outcome(work: Callable[..., object], *values: object, **named: object) -> object:
    try:
        return work(*values, **named)
    except (TypeError, AttributeError) as error:
        return type(error)


def set_second(value: typing.Any) -> None:
    value.second = "c"


@pytest.mark.parametrize("call", CALLS)
def test_dataclass_is_made_as_those_of_the_standard_library(
    call: tuple[tuple[object, ...], dict[str, object]],
) -> None:
    values, named = call

    for ours, standard in KINDS:
        made = [outcome(kind, *values, **named) for kind in (ours, standard)]
        assert repr(made[0]) == repr(made[1])
        if made[0] is not TypeError:
            one, other = made
            assert vars(one) == vars(other)
            assert one == ours(*values, **named) != ours(2, fourth=8)
            for work in (hash, set_second, dataclasses.asdict):
                assert outcome(work, one) == outcome(work, other)
            assert dataclasses.replace(one, first=7).first == 7


def test_dataclass_keeps_its_signature_and_can_be_pickled() -> None:
    for ours, standard in KINDS:
        one, other = inspect.signature(ours), inspect.signature(standard)
        # Only the default that stands for a factory differs.
        third = one.parameters["third"].replace(default=list)
        assert one.replace() == other.replace(
            parameters=[third if p.name == "third" else p for p in other.parameters.values()]
        )
    assert pickle.loads(pickle.dumps(Made(1))) == copy.deepcopy(Made(1))


class Named(Made):
    def __init__(self, name: str) -> None:
        super().__init__(1, second=name)


def test_subclass_may_have_a_constructor_of_its_own() -> None:
    assert Named("x").second == "x"
    assert list(inspect.signature(Named).parameters) == ["name"]


def test_frozen_class_has_subclasses_as_those_of_the_standard_library() -> None:
    more: list[typing.Any] = [("sixth", int, 6)]
    for kind in (*KINDS[0], HostConfig):
        name = dataclasses.fields(kind)[0].name
        plain: typing.Any = type("Plain", (kind,), {})("x")
        plain.sixth = 6
        del plain.sixth
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"^cannot assign to .*{name}"):
            setattr(plain, name, "y")
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"^cannot delete .*{name}"):
            delattr(plain, name)

        own = dataclasses.make_dataclass("Own", more, bases=(kind,), frozen=True)("x")
        assert own.sixth == 6
        with pytest.raises(TypeError, match="frozen"):
            dataclasses.make_dataclass("Own", more, bases=(kind,))
