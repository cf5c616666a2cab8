"""`dataclass` of `dataclasses`, for classes that every run makes at its start.

`dataclasses` compiles the methods of each class: a millisecond for one with forty fields.  Here all
classes share methods that read the fields.  For type checkers it is that of `dataclasses`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False) -> Callable[[type], type]:
        """Return the decorator; a method that the class itself has stays."""

        def decorate(cls: type) -> type:
            for name, method in (_METHODS | _FROZEN if frozen else _METHODS).items():
                if name not in cls.__dict__:
                    setattr(cls, name, method)
            if frozen:
                _note_frozen(cls, frozen=False)
            made = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
            if frozen:
                _note_frozen(made, frozen=True)
            return made

        return decorate


def _note_frozen(cls: type, *, frozen: bool) -> None:
    """Let `dataclasses` make subclasses as of frozen classes, which are so with all their bases.

    It has no public way that does not compile two methods for each class.
    """
    for kind in cls.__mro__:
        if "__dataclass_params__" in kind.__dict__:
            kind.__dataclass_params__.frozen = frozen  # type: ignore[attr-defined]


class _Signature:
    """The signature of a constructor, made when `inspect` asks for it."""

    def __get__(self, instance: object, owner: Any) -> Any:
        from inspect import Parameter, Signature, signature

        if owner.__init__ is not _init:
            return signature(owner.__init__.__get__(owner))
        positional, defaults, factories, _ = _parameters_of(owner)
        values = {name: Parameter.empty if v is MISSING else v for name, v in defaults.items()}
        kinds = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        types = {f.name: f.type for f in fields(owner)}
        parameters = [
            Parameter(
                name,
                kinds[name in positional],
                default=factories.get(name, value),
                annotation=types[name],
            )
            for name, value in values.items()
        ]
        return Signature(parameters, return_annotation=None)


def _init(self: Any, *values: Any, **named: Any) -> None:
    kind: Any = type(self)
    positional, defaults, factories, required = _parameters_of(kind)
    given = dict(zip(positional, values))  # noqa: B905  # too many are refused below
    found = {**defaults, **given, **named}
    for name, factory in factories.items():
        if found[name] is MISSING:
            found[name] = factory()
    is_wrong = values and (len(values) > len(positional) or not named.keys().isdisjoint(given))
    if is_wrong or len(found) > len(defaults) or [n for n in required if found[n] is MISSING]:
        from inspect import signature

        signature(kind).bind(*values, **named)  # raises TypeError
    if kind.__setattr__ is _refuse_change:
        self.__dict__.update(found)
    else:
        for name, value in found.items():
            setattr(self, name, value)
    if hasattr(kind, "__post_init__"):
        self.__post_init__()


def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    kind: Any = type(self)
    compared = _compared_of(kind)
    return bool(compared(self) == compared(other))


def _hash(self: Any) -> int:
    names = (f.name for f in fields(self) if (f.compare if f.hash is None else f.hash))
    return hash(tuple(getattr(self, name) for name in names))


def _refuse_change(self: Any, name: str, *value: object) -> None:
    """Refuse to change a field; a subclass that is no dataclass may have other attributes."""
    kind = type(self)
    if "__dataclass_fields__" in kind.__dict__ or name in kind.__dataclass_fields__:
        raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")
    (object.__setattr__ if value else object.__delattr__)(self, name, *value)


@functools.cache
def _parameters_of(
    kind: Any,
) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Callable[[], Any]], tuple[str, ...]]:
    """Return the positional parameters, each parameter's default and factory, and those without."""
    taken = sorted((f for f in fields(kind) if f.init), key=lambda f: bool(f.kw_only))
    factories = {f.name: f.default_factory for f in taken if f.default_factory is not MISSING}
    return (
        tuple(f.name for f in taken if not f.kw_only),
        {f.name: f.default for f in taken},
        factories,
        tuple(f.name for f in taken if f.default is MISSING and f.name not in factories),
    )


@functools.cache
def _compared_of(kind: Any) -> Callable[[object], object]:
    """Return a function that reads the compared fields, for each host of a run."""
    return attrgetter(*(f.name for f in fields(kind) if f.compare))


_METHODS = {
    "__init__": _init,
    "__signature__": _Signature(),
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": None,
}
_FROZEN = {"__hash__": _hash, "__setattr__": _refuse_change, "__delattr__": _refuse_change}
