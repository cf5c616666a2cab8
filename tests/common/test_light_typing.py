"""Classes of named fields, which are made without code of their own."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from ringtasks.common.light_typing import NamedTuple


class Ours(NamedTuple):
    """A text."""

    first: int
    second: str = "two"
    third: tuple[int, ...] = ()

    @property
    def doubled(self) -> int:
        return self.first * 2


class Typed(typing.NamedTuple):
    first: int
    second: str = "two"
    third: tuple[int, ...] = ()


CALLS: list[tuple[tuple[object, ...], dict[str, object]]] = [
    ((1,), {}),
    ((1, "b", (3,)), {}),
    ((1,), {"third": (4,)}),
    ((), {"first": 5, "second": "b"}),
    ((), {}),
    ((1, "b", (), 4), {}),
    ((1,), {"first": 2}),
    ((1,), {"fourth": 2}),
]


def made(kind: typing.Any, values: tuple[object, ...], named: dict[str, object]) -> typing.Any:
    try:
        found = kind(*values, **named)
    except TypeError:
        return TypeError
    is_equal = found == tuple(found) and hash(found) == hash(tuple(found))
    return is_equal, found._asdict(), repr(found).partition("(")[2], found._replace(second="c")[1:]


@pytest.mark.parametrize(("values", "named"), CALLS)
def test_class_of_named_fields_is_made_as_those_of_typing(
    values: tuple[object, ...], named: dict[str, object]
) -> None:
    assert made(Ours, values, named) == made(Typed, values, named)


def test_class_of_named_fields_keeps_methods_text_and_names() -> None:
    ours = Ours(1)

    assert (Ours.__doc__, ours.doubled, repr(ours)[:5]) == ("A text.", 2, "Ours(")
    assert (Ours._fields, Ours._field_defaults, Ours.__match_args__) == (
        Typed._fields,
        Typed._field_defaults,
        Typed.__match_args__,
    )
    assert pickle.loads(pickle.dumps(ours)) == copy.copy(ours) == Ours._make((1, "two", ()))
    with pytest.raises(AttributeError):
        ours.first = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ours.fourth = 2  # type: ignore[attr-defined]
