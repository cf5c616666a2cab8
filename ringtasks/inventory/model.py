"""`HostConfig` and `Inventory`: the values that a hosts file is read into.

Each setting of a host is declared once, as a field of `SSHConfig` with the check of its value; a
key that is not such a setting is a fact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any

from ringtasks.common.light_dataclass import dataclass
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.program_name import as_typed
from ringtasks.common.settings import setting, settings_of
from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError, UnknownHostError

from .host_settings import SSHConfig, hosts_file_keys

if TYPE_CHECKING:
    from .conditions import Condition
    from .sources.model import Source

__all__ = [
    "ADDRESS_KEYS",
    "PLACE_KEYS",
    "RESERVED_GROUPS",
    "SETTINGS",
    "Content",
    "HostConfig",
    "Inventory",
    "WrittenGroup",
]

#: Every host that is not embedded, and every embedded one.
RESERVED_GROUPS = ("all", "embedded")


def _as_given(declared: Field[Any]) -> Any:
    """Return the field for a setting as a hosts file gives it; None: not given there."""
    own = declared.metadata
    default = False if declared.default is False else None
    return setting(own["check"], default, is_secret=own["is_secret"])


_Declared: Any = make_dataclass(
    "_Declared",
    [
        ("name", str),
        *(
            (key, Any, _as_given(declared))
            for declared in settings_of(SSHConfig).values()
            for key in hosts_file_keys(declared)
        ),
    ],
    init=False, repr=False, eq=False,
    namespace={"__doc__": "The settings; without a text of its own, dataclass would make one."},
)  # fmt: skip


@dataclass(frozen=True)
class HostConfig(_Declared):  # type: ignore[misc]  # the fields are those of SSHConfig
    """One host as the hosts file describes it; a setting is None if it is not given there.

    :raises TypeError: no field has that name.
    """

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Every other key, with YAML's value."""
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)
    """The facts as written in the file; a list has one text for each member."""
    groups: tuple[str, ...] = ()
    jump_host: HostConfig | None = field(default=None, repr=False, compare=False)
    """The host of the same inventory that ``proxy_jump`` names."""
    file: str = ""
    line: int = 0
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    """The line of each setting that is given."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The source of each setting that comes from one, for people."""
    inventory_files: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """The inventory whose sources know the host's addresses; empty: they come from a file."""
    absence: str = field(default="", compare=False)
    """The reason why a source has no present address for the host; empty: none is missing."""
    moved_at: float = field(default=0.0, repr=False, compare=False)
    """The time (Unix seconds) of the answer of a source with another place; 0: there was none."""
    fault: InventoryError | None = field(default=None, compare=False)
    """The error in the host's entry: the host cannot be used, the others can."""

    def __init__(self, name: str, **given: Any) -> None:
        if unknown := given.keys() - _FIELD_NAMES:
            raise TypeError(f"HostConfig has no field {min(unknown)!r}")
        # Only what is given: the defaults are attributes of the class, and there are many hosts.
        own = {"name": name, "facts": {}, "texts": {}, "lines": {}, "origins": {}, **given}
        self.__dict__.update(own)


_FIELD_NAMES = {declared.name for declared in fields(HostConfig)}

#: The settings of a host by their keys in a hosts file.
SETTINGS = settings_of(HostConfig)
#: The keys of a host's addresses, one for each kind of route.
ADDRESS_KEYS = tuple(
    hosts_file_keys(declared)[0]
    for declared in settings_of(SSHConfig).values()
    if "address_of" in declared.metadata
)
#: The settings that tell where a host is now.
PLACE_KEYS = (*ADDRESS_KEYS, "ssh_port", "tailscale_port")


class WrittenGroup(NamedTuple):
    """A group as it stands in a hosts file.

    ``place`` is named in errors.  ``problem`` is why the group cannot be used; empty if it can.
    """

    members: list[str]
    place: str
    problem: str = ""


class Content(NamedTuple):
    """The content of one hosts file."""

    hosts: Mapping[str, HostConfig]
    groups: Mapping[str, WrittenGroup] = {}
    warnings: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    defaults: Mapping[str, Any] = {}
    """The settings and facts that its hosts share."""
    default_lines: Mapping[str, int] = {}
    """The lines of those settings."""


class Inventory(NamedTuple):
    """All hosts by name, in the order of the files, and the groups with their members."""

    hosts: Mapping[str, HostConfig]
    groups: Mapping[str, tuple[str, ...]] = {}
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Doubtful entries, such as a field that is nearly a known one; for people."""
    group_faults: Mapping[str, InventoryError] = {}
    """The groups that cannot be used, each with its error; they are not in ``groups``."""
    absent: Mapping[str, str] = {}
    """The hosts of sources that cannot be reached now, with the reason."""
    matching: Callable[[Condition], set[str]] | None = None
    """Returns the hosts that meet a live condition; None: no host is asked."""

    def get(self, name: str) -> HostConfig:
        """Return the host called ``name``.

        :raises UnknownHostError: no host has that name; the error lists near names.
        """
        if name in self.absent and name not in self.hosts:
            raise UnknownHostError(f"host {name!r} cannot be reached now: {self.absent[name]}")
        if name not in self.hosts:
            is_group = name in {*self.groups, *self.group_faults, *RESERVED_GROUPS}
            near = (f"@{name}",) if is_group else self._listed(name) or near_names(name, self.hosts)
            listed = f"; '{as_typed('hosts')}' lists the hosts"
            advice = "" if near else f"{listed}; one that no file has is given as USER@HOST"
            raise UnknownHostError(f"unknown host {name!r}{advice}", near=near)
        return self.hosts[name]

    def _listed(self, text: str) -> tuple[str, ...]:
        """Return the selector for names with spaces between them, for an error."""
        words = text.split()
        known = {*self.hosts, *(f"@{group}" for group in (*self.groups, *RESERVED_GROUPS))}
        return (",".join(words),) if len(words) > 1 and known.issuperset(words) else ()
