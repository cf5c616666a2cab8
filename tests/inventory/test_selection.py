"""Selectors: which hosts are meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.errors import UnknownHostError, UsageError
from ringtasks.inventory.loader import load_inventory
from ringtasks.inventory.model import HostConfig, Inventory
from ringtasks.inventory.selection import ordered_as_named, select

NAMES = ["gpu01", "gpu02", "gpu10", "vast-1", "vast-2", "mac", "odd[1]"]
INVENTORY = Inventory(
    {
        name: HostConfig(
            name,
            ssh_host="h",
            ssh_user="root" if name.startswith("vast") else None,
            facts={"gpu": "H100 80GB", "training_enabled": True, "cpus": 8}
            if name.startswith("gpu")
            else {"training_enabled": False},
        )
        for name in NAMES
    },
    {"gpu": ("gpu01", "gpu02", "gpu10"), "rented": ("vast-1", "gpu01")},
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("mac", ["mac"]),
        ("mac,gpu01", ["gpu01", "mac"]),  # in the inventory's order
        (" mac , gpu01 ", ["gpu01", "mac"]),
        ("vast-*", ["vast-1", "vast-2"]),
        ("gpu0?", ["gpu01", "gpu02"]),
        ("gpu[01-02]", ["gpu01", "gpu02"]),
        ("gpu[01,10]", ["gpu01", "gpu10"]),
        ("odd[1]", ["odd[1]"]),  # a host's own name wins over the range that it looks like
        ("@gpu", ["gpu01", "gpu02", "gpu10"]),
        ("@all", NAMES),
        ("@gpu,!gpu02", ["gpu01", "gpu10"]),
        ("!gpu02,@gpu", ["gpu01", "gpu10"]),  # wherever the exclusion stands
        ("!gpu*", ["vast-1", "vast-2", "mac", "odd[1]"]),  # only exclusions: all but
        ("@gpu,!@rented", ["gpu02", "gpu10"]),
        ("gpu=H100*", ["gpu01", "gpu02", "gpu10"]),
        ("cpus=8,!gpu01", ["gpu02", "gpu10"]),
        ("training_enabled=TRUE", ["gpu01", "gpu02", "gpu10"]),
        ("ssh_user=root", ["vast-1", "vast-2"]),
        ("nothing-*,mac", ["mac"]),
    ],
)
def test_selector_returns_the_expected_hosts(expression: str, expected: list[str]) -> None:
    assert list(select(expression, INVENTORY)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("mac,gpu01", ["mac", "gpu01"]),
        ("!gpu02, vast-2 ,@gpu", ["vast-2", "gpu01", "gpu10"]),
        ("@rented,gpu01", ["gpu01", "vast-1"]),  # a group has the inventory's order
        ("gpu10&@gpu,gpu=H100*,gpu10", ["gpu10", "gpu01", "gpu02"]),
        ("!gpu*", ["vast-1", "vast-2", "mac", "odd[1]"]),
    ],
)
def test_selected_hosts_can_be_ordered_as_they_were_named(
    expression: str, expected: list[str]
) -> None:
    names = select(expression, INVENTORY)
    assert list(ordered_as_named(expression, INVENTORY, names)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("gpu1", "unknown host 'gpu1'; did you mean gpu10, gpu01"),
        ("@gpus", "unknown group '@gpus'; did you mean @gpu"),
        ("gpu[01-03]", "unknown host 'gpu03'"),
        ("gpu01 @gpu", "unknown host 'gpu01 @gpu'; did you mean gpu01,@gpu?"),
        ("MAC", "unknown host 'MAC'; did you mean mac"),
        ("zzzzzz", "'inv hosts' lists the hosts; one that no file has is given as USER@HOST"),
        ("@8", "unknown group '@8'; did you mean cpus=8"),
        ("@zzzzzz", "unknown group '@zzzzzz'; there are @"),
        ("", "found a gap"),
        ("a,,b", "found a gap"),
        ("mac,", "found a gap"),
        ("!", "expected a name after '!'"),
        ("gpu[01", "expected a ']'"),
        ("gpu[x-y]", "[x-y] is not a range of numbers such as [1-4,07]"),
        ("nothing-*", "no host matches 'nothing-*'; 'inv hosts' lists the hosts"),
        ("mac,!mac", "no host matches"),
        ("role=none", "no host matches"),
        ("a\nb", "control character"),
        ("a\0", "control character"),
    ],
)
def test_invalid_selector_is_refused_in_one_line(expression: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(expression, INVENTORY)

    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_without_other_than_embedded_hosts_names_one() -> None:
    with pytest.raises(UsageError) as caught:
        select("@all", Inventory({"demo": HostConfig("demo", embedded=True)}))

    assert str(caught.value) == (
        "no host matches '@all': the inventory has only embedded hosts, "
        "which are selected by name: 'demo'"
    )


def test_unknown_name_in_a_selector_is_a_lookup_error_with_similar_names() -> None:
    with pytest.raises(UnknownHostError) as caught:
        select("vast", INVENTORY)

    assert isinstance(caught.value, LookupError)
    assert set(caught.value.near) == {"vast-1", "vast-2"}


items = st.sampled_from(["@gpu", "vast-*", "mac", "gpu[01-02]", "gpu=H100*", "@rented"])


@given(one=st.lists(items, min_size=1), other=st.lists(items, min_size=1))
def test_comma_separated_selectors_mean_their_union(one: list[str], other: list[str]) -> None:
    joined = set(select(",".join(one + other), INVENTORY))

    assert joined == set(select(",".join(one), INVENTORY)) | set(select(",".join(other), INVENTORY))


@given(text=st.text(max_size=30))
def test_any_text_is_a_valid_selector_or_refused(text: str) -> None:
    try:
        chosen = select(text, INVENTORY)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert set(chosen) <= set(NAMES)


WRITTEN = """
hosts:
  a: {ssh_host: h, cuda: 12.10, rack: 010, country: NO, power: off, gpu: "H100, 80GB"}
  b: {ssh_host: h, cuda: 12.1, rack: 8, country: DE, power: on, gpu: "H100 [SXM]", on: 1}
  c: {ssh_host: h, tags: [a100, spot], gpu: "H100*", ready: true, note: "x & y"}
  e: {embedded: true, rack: 8, ready: true}
"""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cuda=12.10", ["a"]),
        ("cuda=12.1", ["b"]),
        ("cuda=12.1*", ["a", "b"]),
        ("rack=010", ["a"]),
        ("rack=8", ["b"]),
        ("country=NO", ["a"]),
        ("power=off,c", ["a", "c"]),
        ("tags=spot", ["c"]),
        ("gpu=H100, 80GB", ["a"]),
        ('gpu="H100, 80GB",c', ["a", "c"]),
        ("gpu=H100, 80GB,c", ["a", "c"]),
        ("gpu=H100 [SXM]", ["b"]),
        ("gpu=H100*", ["c"]),  # the exact text comes before the glob
        ("gpu=H100 *", ["b"]),
        ("ready=TRUE", ["c"]),
        ("note=x & y", ["c"]),
        ("cuda=*&rack=8", ["b"]),
        ("@all&cuda=12.1", ["b"]),
        ("!gpu=H100, 80GB", ["b", "c"]),
        ("@embedded", ["e"]),
        ("e", ["e"]),
        ("@all", ["a", "b", "c"]),
        ("?", ["a", "b", "c"]),
        ("!a", ["b", "c"]),
        ("rack>9", ["a"]),  # 010 is ten, as it is read by people
        ("rack<=8", ["b"]),  # not the embedded one
        ("on=1", ["b"]),
    ],
)
def test_facts_are_matched_by_their_text_as_written(
    tmp_path: Path, expression: str, expected: list[str]
) -> None:
    (tmp_path / "hosts.yaml").write_text(WRITTEN)

    assert list(select(expression, load_inventory(tmp_path / "hosts.yaml"))) == expected


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("a&", "expected a name after '!' or '&'"),
        ("&a", "expected a name after '!' or '&'"),
        ("cuda!=12.1", "write !cuda=12.1"),
    ],
)
def test_selector_with_a_missing_or_foreign_part_is_refused(
    tmp_path: Path, expression: str, told: str
) -> None:
    (tmp_path / "hosts.yaml").write_text(WRITTEN)

    with pytest.raises(UsageError, match=re.escape(told)):
        select(expression, load_inventory(tmp_path / "hosts.yaml"))


@pytest.mark.parametrize("expression", ["gpu[1-30000000]", "r[1-9999]n[1-9999]"])
def test_range_of_too_many_names_is_refused_at_once(expression: str) -> None:
    with pytest.raises(UsageError, match="more than 100000 names"):
        select(expression, INVENTORY)
