"""Public names for the private methods of a library, to call and to override."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from .light_typing import NamedTuple

__all__ = ["PublicNames", "private"]


class _Private(NamedTuple):
    name: str


def private(name: str) -> Any:
    """Return the value of a class attribute that is a public name of the library's ``name``."""
    return _Private(name)


class PublicNames:
    """A base class: a method of a subclass replaces the library's private method.

    :cvar PRIVATE: for each public name the library's own; complete when the class is made.
    """

    PRIVATE: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name: value.name for name, value in vars(cls).items() if isinstance(value, _Private)}
        if own:
            cls.PRIVATE = {**cls.PRIVATE, **own}
        for public, name in own.items():
            setattr(cls, public, inspect.getattr_static(cls, name))
        for public, name in cls.PRIVATE.items():
            setattr(cls, name, inspect.getattr_static(cls, public))
