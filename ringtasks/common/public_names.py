"""Public names for the private methods of a library, to call and to override."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = ["PublicNames"]


class PublicNames:
    """A base class: a method of a subclass replaces the library's private method.

    :cvar PRIVATE: for each public name the library's own.
    """

    PRIVATE: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for public, private in cls.PRIVATE.items():
            setattr(cls, private, inspect.getattr_static(cls, public))
