"""JSON of the core becomes dataclasses, or an error that names what was not expected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from arrow_zerobus_sdk_wrapper import admin
from arrow_zerobus_sdk_wrapper.admin._decode import decode
from conftest import MakeWrapper


@dataclass(frozen=True)
class Inner:
    path: Path
    state: Literal["waiting", "delivered"]


@dataclass(frozen=True)
class Outer:
    inner: list[Inner]
    time: datetime | None
    ratio: float
    span: tuple[int, int]
    by_name: dict[str, Inner]
    missing: int = 7


def test_objects_become_dataclasses_however_deep() -> None:
    inner = '{"path": "/a", "state": "waiting", "unknown": 1}'
    text = f'{{"inner": [{inner}], "time": 1000000, "ratio": 1, "span": [1, 2], "by_name": {{"x": {inner}}}}}'
    expected = Inner(Path("/a"), "waiting")
    assert decode(Outer, text) == Outer(
        [expected], datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 1.0, (1, 2), {"x": expected}
    )
    assert decode(Outer, text.replace("1000000", "null")).time is None


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (int, '"1"'),
        (int, "true"),
        (float, "true"),
        (list[int], "{}"),
        (dict[str, int], "[]"),
        (Inner, "[]"),
        (Inner, '{"path": "/a", "state": "lost"}'),
        (tuple[int, int], "[1]"),
    ],
)
def test_what_was_not_expected_is_refused(wanted: Any, text: str) -> None:
    with pytest.raises(TypeError, match="was expected"):
        decode(wanted, text)


def test_logs_are_found(offline: MakeWrapper, tmp_path: Path) -> None:
    directory = Path(offline().status()["directory"])
    assert admin.find_logs(tmp_path / "wal") == [directory]
    assert admin.find_logs(directory) == [directory]
