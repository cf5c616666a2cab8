"""Conditions of selectors: facts that are numbers, and values that hosts are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ringtasks.errors import UsageError
from ringtasks.inventory.model import HostConfig, Inventory
from ringtasks.inventory.selection import select

FACTS: dict[str, dict[str, object]] = {
    "cheap": {"price_per_hour": 0.4},
    "dear": {"price_per_hour": 2.39, "gpu": "H100", "load": "high"},
    "odd": {"price_per_hour": "1.50", "note": "=x"},
    "none": {},
}
INVENTORY = Inventory(
    {
        name: HostConfig(
            name,
            ssh_host="h",
            facts=facts,
            texts={key: (str(value),) for key, value in facts.items()},
            work_dir={"cheap": "~/app", "none": "~"}.get(name),
        )
        for name, facts in FACTS.items()
    },
    {"a": ("cheap", "dear", "odd"), "b": ("dear", "odd", "none")},
)
VALUES: dict[str, dict[str, float]] = {
    "cheap": {"free_gpus": 0, "disk_gb": 10.0, "idle": 0},
    "dear": {"free_gpus": 2, "disk_gb": 500.0, "idle": 3600},
    "odd": {"free_gpus": 8, "disk_gb": 50.0},
}


class Probe:
    """Answers with the values; the host "none" does not answer."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, hosts: Sequence[HostConfig]) -> Mapping[str, Mapping[str, float]]:
        self.asked.append([host.name for host in hosts])
        return {host.name: VALUES[host.name] for host in hosts if host.name in VALUES}


@pytest.mark.parametrize(
    ("expression", "expected", "asked"),
    [
        ("free_gpus>=2", ["dear", "odd"], ["cheap", "dear", "odd", "none"]),
        ("free_gpus >= 2", ["dear", "odd"], ["cheap", "dear", "odd", "none"]),
        ("free_gpus<=2", ["cheap", "dear"], ["cheap", "dear", "odd", "none"]),
        ("@a&@b&free_gpus>=2", ["dear", "odd"], ["dear", "odd"]),
        ("@a&free_gpus>=1&disk_gb>50", ["dear"], ["cheap", "dear", "odd"]),
        ("idle>30m", ["dear"], ["cheap", "dear", "odd", "none"]),
        ("idle<1", ["cheap"], ["cheap", "dear", "odd", "none"]),
        ("cheap,free_gpus>4", ["cheap", "odd"], ["cheap", "dear", "odd", "none"]),
        ("@a&free_gpus>=0,!dear", ["cheap", "odd"], ["cheap", "odd"]),
        # A host whose value is not known is in neither.
        ("@all,!idle>30m", ["cheap"], ["cheap", "dear", "odd", "none"]),
        ("!free_gpus<1", ["dear", "odd"], ["cheap", "dear", "odd", "none"]),
        ("price_per_hour<2&free_gpus>=1", ["odd"], ["cheap", "odd"]),
        ("free_gpus=2", ["dear"], ["cheap", "dear", "odd", "none"]),
        ("@a&free_gpus = 0", ["cheap"], ["cheap", "dear", "odd"]),
        ("!free_gpus=0", ["dear", "odd"], ["cheap", "dear", "odd", "none"]),
        ("idle=1h", ["dear"], ["cheap", "dear", "odd", "none"]),
    ],
)
def test_live_conditions_select_from_one_probe_of_the_candidates(
    expression: str, expected: list[str], asked: list[str]
) -> None:
    probe = Probe()

    assert list(select(expression, INVENTORY, probe)) == expected
    assert probe.asked == [asked]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("price_per_hour<2", ["cheap", "odd"]),
        ("price_per_hour>=2.39", ["dear"]),
        ("price_per_hour>0&gpu=H100", ["dear"]),
        ("!price_per_hour>1", ["cheap", "none"]),
        ("ssh_port<100,cheap", ["cheap"]),
        ("load=high", ["dear"]),  # a fact of that name
        ("!load=high", ["cheap", "odd", "none"]),
        ("note==x", ["odd"]),  # as it is written
        ("@b&note==x", ["odd"]),
        ("work_dir=~/app", ["cheap"]),
        ("work_dir=~", ["none"]),
        ("!drained=true", ["cheap", "dear", "odd", "none"]),
    ],
)
def test_numbers_of_facts_are_compared_without_asking(expression: str, expected: list[str]) -> None:
    probe = Probe()

    assert list(select(expression, INVENTORY, probe)) == expected
    assert list(select(expression, INVENTORY)) == expected
    assert probe.asked == []


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("free_gpus>=two", "expected a number, found 'two'"),
        ("free_gpus>=", "expected a number, found ''"),
        ("idle>soon", "expected a duration"),
        ("free_gpus>99", "no host matches 'free_gpus>99' now; 'inv status' shows their state"),
        ("@nosuch&free_gpus>1", "unknown group '@nosuch'"),
        ("cheap,!disc_gb<5", "no host has a value 'disc_gb'; did you mean disk_gb"),
        ("price>1", "no host has a value 'price'"),
        ("free_gpus=two", "expected a number, found 'two'"),
        ("disk_gb>nan", "expected a number, found 'nan'"),
        ("disk_gb<inf", "expected a number, found 'inf'"),
        ("disk_gb<1e999", "expected a number, found '1e999'"),
        ("price_per_hour<1_0", "expected a number, found '1_0'"),
        (">=2", "expected a name in front"),
        ("free_gpus=>2", "'=>' is not a comparison: write free_gpus>=2"),
        ("@a&price_per_hour =< 2", "write price_per_hour<=2"),
        ("free_gpus==2", "write free_gpus=2"),
        ("cheap,!gpu==H100", "write gpu=H100"),
        ("free_gpus!=0", "write !free_gpus=0"),
        ("free_gpus<>0", "write !free_gpus=0"),
        ("gpu=~H", "write gpu=H"),
        ("gpu~=H", "write gpu=H"),
        ("free_gpus>>2", "write one of = >= <= > <"),
        ("!=x", "expected KEY=VALUE, found '=x'"),
        ("!gpu=", "expected a value after 'gpu='; an empty one is gpu=\"\""),
        ("@a&!dear", "'!' excludes by an item of its own: ',!dear'"),
        ("!free_gpu=0", "no host has a value 'free_gpu'; did you mean free_gpus"),
        ("!gpux=H100", "no host has a value 'gpux'; did you mean gpu"),
    ],
)
def test_malformed_or_unmet_condition_is_an_error(expression: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        select(expression, INVENTORY, Probe())


def test_live_condition_without_a_probe_names_the_tasks_that_have_one() -> None:
    with pytest.raises(UsageError, match="--host of run, start, train and status"):
        select("@a&free_gpus>1", INVENTORY)
