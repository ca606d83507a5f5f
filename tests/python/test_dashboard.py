"""The dashboard is one that Grafana takes: by Grafana's own model of it, and by what a model does not say.

Goal: who imports ``grafana-dashboard.json`` finds every panel where and as it is meant.
Method: the model that Grafana publishes reads the file, its types are compared with what it read, and it
writes it again; what it does not know is missing then. Whether the queries find something is in
``test_prometheus.py``.
"""

from __future__ import annotations

import copy
import json
import re
import typing
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus, units
from pydantic import ConfigDict, TypeAdapter, ValidationError

FILE = Path(__file__).parents[2] / "docs/operations/grafana-dashboard.json"
COLUMNS = 24

plugins.register_default_plugins()


def parts_of(value: Any) -> Iterator[Any]:
    """The objects of the model that a value is, or is made of."""
    if hasattr(value, "to_json"):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from parts_of(item)


def mistyped(part: Any) -> Iterator[str]:
    """What an object of the model holds that its annotations do not allow."""
    for name, hint in typing.get_type_hints(type(part)).items():
        value = getattr(part, name)
        inner = list(parts_of(value))
        for item in inner:
            yield from mistyped(item)
        if inner:
            continue
        try:
            adapter = TypeAdapter[Any](hint, config=ConfigDict(arbitrary_types_allowed=True))
            adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError:
            yield f"{type(part).__name__}.{name} is {value!r}"


def unknown(given: Any, kept: Any, place: str = "") -> Iterator[str]:
    """What the model has not kept of a file."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from unknown(value, kept[key], f"{place}/{key}")
            else:
                yield f"{place}/{key} is not known"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from unknown(one, other, f"{place}/{number}")
    elif given != kept:
        yield f"{place} was {given!r} and is {kept!r}"


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Whether two places in the grid have a cell in common."""
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "w"), ("y", "h"))
    )


def faults_of(given: dict[str, Any]) -> list[str]:
    """What is wrong with a dashboard."""
    read = model.Dashboard.from_json(given)
    found = [*mistyped(read), *unknown(given, json.loads(json.dumps(read, cls=JSONEncoder)))]

    panels = given["panels"]
    for panel, parsed in zip(panels, read.panels or [], strict=True):
        title, place = panel["title"], panel["gridPos"]
        assert isinstance(parsed, model.Panel)
        queries = parsed.targets or []
        if not queries or not all(isinstance(query, prometheus.Dataquery) for query in queries):
            found.append(f"{title} has other queries than those of Prometheus")
        if place["x"] < 0 or place["x"] + place["w"] > COLUMNS:
            found.append(f"{title} is wider than the page")
        unit = panel["fieldConfig"]["defaults"]["unit"]
        if unit not in vars(units).values():
            found.append(f"{title} has the unit {unit}, which Grafana has not")
    for one, other in combinations(panels, 2):
        if overlap(one["gridPos"], other["gridPos"]):
            found.append(f"{one['title']} lies on {other['title']}")
        if one["id"] == other["id"]:
            found.append(f"{one['title']} and {other['title']} have one id")

    variables = {variable["name"] for variable in given["templating"]["list"]}
    # Those with two underscores are Grafana's own.
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(given)))
    found += [f"${name} is not defined" for name in used - variables]
    found += [f"${name} is not used" for name in variables - used]
    return found


def test_grafana_knows_all_that_the_dashboard_says() -> None:
    given = json.loads(FILE.read_text())
    assert len(given["panels"]) >= 10
    assert faults_of(given) == []


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda it: it["panels"][0].update(titel="x"), "/panels/0/titel is not known"),
        (lambda it: it["panels"][0]["targets"][0].update(exp="x"), "/panels/0/targets/0/exp is not known"),
        (lambda it: it["panels"][0].update(id="1"), "Panel.id_val is '1'"),
        (lambda it: it.update(refresh=30), "Dashboard.refresh is 30"),
        (
            lambda it: it["templating"]["list"][0].update(type="sources"),
            "VariableModel.type_val is 'sources'",
        ),
        (lambda it: it["panels"][1]["gridPos"].update(x=11), "lies on"),
        (lambda it: it["panels"][1]["gridPos"].update(w=13), "is wider than the page"),
        (lambda it: it["panels"][1].update(id=1), "have one id"),
        (lambda it: it["panels"][1]["datasource"].update(type="loki"), "has other queries"),
        (lambda it: it["panels"][1]["fieldConfig"]["defaults"].update(unit="rows"), "has the unit rows"),
        (lambda it: it["templating"]["list"].pop(), "$table is not defined"),
        (lambda it: it["templating"]["list"][1].update(name="tables"), "$tables is not used"),
    ],
)
def test_a_fault_of_a_dashboard_is_found(change: Change, fault: str) -> None:
    given = copy.deepcopy(json.loads(FILE.read_text()))
    change(given)
    found = faults_of(given)
    assert any(fault in each for each in found), found
