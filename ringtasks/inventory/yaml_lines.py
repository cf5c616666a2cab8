"""YAML with the line and the written text of each key and value.

YAML 1.1 reads ``010`` as 8, ``no`` as false and ``12.10`` as 12.1.  Users select hosts by the text
in the file, and a key that YAML does not read as text must be shown as it is written.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import yaml

from ringtasks.common.collector import paused
from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import InventoryError

__all__ = ["LinedMapping", "kind_of", "parse", "parse_value"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast
#: A hosts file of 5,000 hosts with 20 fields each has a fifth of this number.
_MAX_NODES = 1_000_000
_RESOLVED = 50_000  # texts
_MERGE_TAG = "tag:yaml.org,2002:merge"
_TEXT_TAG = "tag:yaml.org,2002:str"


class LinedMapping(dict[str, Any]):
    """A YAML mapping.

    :ivar lines: the line of each key, counted from 1.
    :ivar texts: the written text of each value that is a scalar or a list of scalars.
    :ivar key_texts: the written text of each key that YAML does not read as text.
    :ivar duplicates: each further line that gives a key again: key, message, line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}
        self.texts: dict[Any, tuple[str, ...]] = {}
        self.key_texts: dict[Any, str] = {}
        self.duplicates: list[tuple[Any, str, int]] = []


class _CollectionKey(NamedTuple):
    """A key that is a list or a mapping, which is no key in Python, by its text."""

    text: str

    def __repr__(self) -> str:
        return "a list" if self.text[0] == "[" else "a mapping"


class _LineLoader(_Loader):  # type: ignore[misc]  # chosen at run time
    """Safe YAML with line numbers, which notes duplicate keys."""

    def __init__(self, stream: object) -> None:
        # The tags of nodes, as Loader.resolve returns them; most texts of a hosts file repeat.
        self.resolve = functools.lru_cache(_RESOLVED)(super().resolve)
        self.scalars: dict[tuple[str, str], Any] = {}  # values by tag and text; they repeat, too
        super().__init__(stream)


def parse(name: str, text: bytes) -> LinedMapping:
    """Parse the text of the YAML file ``name``, whose top level is a mapping.

    :raises InventoryError: it is not YAML, or not a mapping.
    """
    document = parse_value(name, text)
    if not isinstance(document, LinedMapping) or not document:
        found = kind_of(document or None)
        raise InventoryError(f"expected a mapping of hosts, found {found}", file=name, line=1)
    return document


def parse_value(name: str, text: bytes) -> object:
    """Parse any YAML text.

    :param name: the origin of the text, for errors.
    :raises InventoryError: it is not YAML.
    """
    try:
        document = _load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem = error.problem or "broken"
        hint = _hint(text, error.problem_mark)
        raise InventoryError(f"not YAML: {problem}{hint}", file=name, line=line) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InventoryError(f"not YAML: {reason}", file=name) from error
    # Without an alias there are no more values than the text has.
    if b"*" in text and _size(document, _MAX_NODES) >= _MAX_NODES:
        raise InventoryError("expands to more than a million values (aliases?)", file=name)
    return document


def _hint(text: bytes, mark: Any) -> str:
    """Return the advice on a mistake that people make, of which YAML says little."""
    lines = text.split(b"\n")
    at = mark.line if mark is not None else -1
    own = lines[at] if 0 <= at < len(lines) else b""
    if b"\t" in own[: len(own) - len(own.lstrip())]:
        return ": the line begins with a TAB: indent with spaces"
    before = lines[at - 1] if 0 < at <= len(lines) else b""
    if b"${" in own or b"${" in before:
        return ": put a value that holds ${...} in quotes"
    if own.startswith(b"---"):
        return ": a hosts file has one document; remove the line '---'"
    if re.fullmatch(rb"\s*[\w-]+:[^\s:].*", before) or re.fullmatch(rb"\s*[\w-]+:[^\s:].*", own):
        return ": after the colon of a key comes a space"
    return ""


def _load(text: bytes) -> object:
    with paused():
        return yaml.load(text, Loader=_LineLoader)  # noqa: S506  # built on the safe loader


def _construct_mapping(loader: Any, node: Any) -> Any:
    mapping = LinedMapping()
    yield mapping
    for key_node, _ in node.value:
        if key_node.tag != _TEXT_TAG or not isinstance(key_node, yaml.ScalarNode):
            break
    else:
        _fill(loader, mapping, node.value)
        return
    merges = _note(loader, mapping, node.value)
    own = len(node.value) - merges
    if merges:
        loader.flatten_mapping(node)  # puts the merged keys first
    merged, done = len(node.value) - own, set()
    for at, (key_node, value_node) in enumerate(node.value):
        key = _key(loader, key_node)
        if key in done:
            continue  # the first of two counts, if the caller accepts them at all
        if at >= merged:
            done.add(key)
        mapping[key] = _value(loader, value_node)
        if key not in mapping.texts:
            mapping.texts[key] = _written(value_node)


def _note(loader: Any, mapping: LinedMapping, pairs: list[tuple[Any, Any]]) -> int:
    """Note the lines, texts and duplicates of a mapping's own keys; return the number of merges."""
    merges = 0
    for key_node, value_node in pairs:
        if key_node.tag == _MERGE_TAG:
            merges += 1
            continue
        line = key_node.start_mark.line + 1
        key = _key(loader, key_node)
        written = key.text if isinstance(key, _CollectionKey) else key_node.value
        if not isinstance(key, str):
            mapping.key_texts.setdefault(key, written)
        if key in mapping.lines:
            first = mapping.lines[key]
            told = f"the key {written!r} is given twice, first in line {first}"
            mapping.duplicates.append((key, told, line))
            continue
        mapping.lines[key] = line
        mapping.texts[key] = _written(value_node)
    return merges


def _key(loader: Any, node: Any) -> Any:
    """Return the key of a node: a value that can be one."""
    if isinstance(node, yaml.ScalarNode):
        return _value(loader, node)
    if isinstance(node, yaml.SequenceNode):
        return _CollectionKey(f"[{', '.join(_written(node))}]")
    return _CollectionKey(
        f"{{{', '.join(text for pair in node.value for text in _written(pair[0]))}}}"
    )


def _fill(loader: Any, mapping: LinedMapping, pairs: list[tuple[Any, Any]]) -> None:
    """Fill a mapping whose keys are all text, as most are.

    Most values are text, too. The calls for those are in line: there are 100,000 of them.
    """
    lines, texts, text_tag, scalar = mapping.lines, mapping.texts, _TEXT_TAG, yaml.ScalarNode
    for key_node, value_node in pairs:
        key, line = key_node.value, key_node.start_mark.line + 1
        if key in lines:
            told = f"the key {key!r} is given twice, first in line {lines[key]}"
            mapping.duplicates.append((key, told, line))
            continue
        lines[key] = line
        if value_node.tag == text_tag and isinstance(value_node, scalar):
            mapping[key] = value = value_node.value
            texts[key] = (value,)
            continue
        texts[key] = _written(value_node)
        mapping[key] = _value(loader, value_node)


def _is_text(node: Any) -> bool:
    return node.tag == _TEXT_TAG and isinstance(node, yaml.ScalarNode)


def _value(loader: Any, node: Any) -> Any:
    """Return the value of a node; of text, which most nodes are, without the way through YAML's."""
    if _is_text(node):
        return node.value
    if not isinstance(node, yaml.ScalarNode):
        return loader.construct_object(node, deep=True)
    written = (node.tag, node.value)
    if written not in loader.scalars:
        loader.scalars[written] = loader.construct_object(node, deep=True)
    return loader.scalars[written]


_LineLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def _written(node: Any) -> tuple[str, ...]:
    if isinstance(node, yaml.ScalarNode):
        return (str(node.value),)
    if isinstance(node, yaml.SequenceNode):
        return tuple(str(n.value) for n in node.value if isinstance(n, yaml.ScalarNode))
    return ()


def kind_of(value: object) -> str:
    """Return the noun for a value's kind, for an error; of another value, its text."""
    nouns: dict[type, str] = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing"}
    return next((noun for kind, noun in nouns.items() if isinstance(value, kind)), repr(value)[:80])


def _size(value: object, most: int) -> int:
    """Count the values below ``value``, up to ``most``: aliases can nest exponentially."""
    count, waiting = 0, [value]
    while waiting and count < most:
        found = waiting.pop()
        count += 1
        if isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return count
