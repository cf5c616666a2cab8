"""`NamedTuple` and `Protocol` of `typing`, for classes that every run makes at its start.

`typing` compiles the annotation of each field, and a constructor for each class of named fields: a
quarter of a millisecond a class, and a run makes dozens of them.  Here the annotations stay text,
and all classes share their methods.  A protocol is a plain class, which no value can be tested
against.  For type checkers both are those of `typing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["NamedTuple", "Protocol"]

if TYPE_CHECKING:
    from typing import NamedTuple, Protocol
else:
    from collections.abc import Iterable, Mapping
    from operator import itemgetter

    class _Base(tuple):
        """The methods of every class, as in `collections.namedtuple`."""

        __slots__ = ()
        _fields: tuple[str, ...]
        _field_defaults: dict[str, Any]
        _last_defaults: tuple[Any, ...]
        _least: int
        _most: int

        def __new__(cls, *values: Any, **named: Any) -> Any:
            count = len(values)
            if named or not cls._least <= count <= cls._most:
                values = _completed(cls, values, named)
            elif count < cls._most:
                values += cls._last_defaults[count - cls._most :]
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values: Iterable[Any]) -> Any:
            return cls(*values)

        def _replace(self, **changed: Any) -> Any:
            return type(self)(**{**self._asdict(), **changed})

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self) -> str:
            shown = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self) -> tuple[Any, ...]:  # for copies and pickles
            return tuple(self)

    class _Maker(type):
        """The metaclass of `NamedTuple` alone: a class statement with it makes a plain class."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body.pop(field) for field in fields if field in body}
            body.update((field, property(itemgetter(at))) for at, field in enumerate(fields))
            own = {"_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            own["_last_defaults"] = tuple(defaults.values())
            own |= {"_least": len(fields) - len(defaults), "_most": len(fields)}
            return type(name, (_Base,), {"__slots__": (), **body, **own})

    def _completed(cls: Any, values: tuple[Any, ...], named: Mapping[str, Any]) -> list[Any]:
        """Return a value for each field.

        :raises TypeError: as a function with these parameters would.
        """
        rest = cls._fields[len(values) :]
        known = {**cls._field_defaults, **named}
        has_unknown = len(values) > len(cls._fields) or (named and not named.keys() <= {*rest})
        if has_unknown or not known.keys() >= {*rest}:
            raise _mistake(cls, values, named)
        return [*values, *map(known.__getitem__, rest)]

    def _mistake(cls: Any, values: tuple[Any, ...], named: Mapping[str, Any]) -> TypeError:
        given = dict(zip(cls._fields, values))  # noqa: B905  # too many, or too few
        unknown = [name for name in named if name not in cls._fields or name in given]
        found = {**cls._field_defaults, **given, **named}
        missing = [name for name in cls._fields if name not in found]
        wrong = f"missing {missing}" if missing else f"unexpected {unknown or values}"
        return TypeError(f"{cls.__name__}({', '.join(cls._fields)}): {wrong}")

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})

    class Protocol:
        """The base of a class that only type checkers compare with others."""
