"""Every Delta type that the local Zerobus writes, with its extremes, from a wrapper into a table and back."""

from __future__ import annotations

import asyncio
import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, MakeWrapper

FIRST = datetime.datetime(1, 1, 1)
LAST = datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)
NINES = "9" * 38
POINT = pa.struct([("x", pa.int32()), ("tags", pa.list_(pa.string())), ("when", pa.date32())])

# Arrow type, Delta type, values.
COLUMNS: list[tuple[pa.DataType, str, list[Any]]] = [
    (pa.bool_(), "BOOLEAN", [True, None, False]),
    (pa.int8(), "TINYINT", [-(2**7), None, 2**7 - 1]),
    (pa.int16(), "SMALLINT", [-(2**15), None, 2**15 - 1]),
    (pa.int32(), "INT", [-(2**31), None, 2**31 - 1]),
    (pa.int64(), "BIGINT", [-(2**63), None, 2**63 - 1]),
    (pa.uint8(), "SMALLINT", [0, None, 2**8 - 1]),
    (pa.uint16(), "INT", [0, None, 2**16 - 1]),
    (pa.uint32(), "BIGINT", [0, None, 2**32 - 1]),
    (pa.uint64(), "DECIMAL(20,0)", [0, None, 2**64 - 1]),
    (pa.float16(), "FLOAT", [-65504.0, None, 2.0**-24]),
    (pa.float32(), "FLOAT", [float("-inf"), None, 2.0**-149]),
    (pa.float64(), "DOUBLE", [1.7976931348623157e308, None, 5e-324]),
    (pa.string(), "STRING", ["", None, "naïve \0 ☃ \U0010ffff"]),
    (pa.large_string(), "STRING", ["", None, "x" * 70_000]),
    (pa.string_view(), "STRING", ["twelve bytes", None, "thirteen byte"]),
    (pa.binary(), "BINARY", [b"", None, bytes(range(256))]),
    (pa.binary(2), "BINARY", [b"\0\0", None, b"\xff\xff"]),
    (pa.date32(), "DATE", [FIRST.date(), None, LAST.date()]),
    (pa.date64(), "DATE", [FIRST.date(), None, LAST.date()]),
    (pa.timestamp("us"), "TIMESTAMP_NTZ", [FIRST, None, LAST]),
    (
        pa.timestamp("us", "UTC"),
        "TIMESTAMP",
        [FIRST.replace(tzinfo=datetime.UTC), None, LAST.replace(tzinfo=datetime.UTC)],
    ),
    (pa.timestamp("s"), "TIMESTAMP_NTZ", [FIRST, None, datetime.datetime(2026, 1, 2, 3, 4, 5)]),
    (pa.decimal128(38, 0), "DECIMAL(38,0)", [Decimal(NINES), None, Decimal(f"-{NINES}")]),
    (pa.decimal128(38, 38), "DECIMAL(38,38)", [Decimal(f"-0.{NINES}"), None, Decimal(f"0.{'0' * 37}1")]),
    (pa.decimal32(5, 2), "DECIMAL(5,2)", [Decimal("-999.99"), None, Decimal("0.01")]),
    (pa.dictionary(pa.uint16(), pa.string()), "STRING", ["a", None, "a"]),
    (pa.list_(pa.float64()), "ARRAY<DOUBLE>", [[0.5, -0.5], [], [0.0]]),
    (pa.list_view(pa.string()), "ARRAY<STRING>", [["", "a"], [], ["b"]]),
    (
        pa.list_(POINT),
        "ARRAY<STRUCT<x: INT, tags: ARRAY<STRING>, when: DATE>>",
        [
            [{"x": 1, "tags": ["a"], "when": FIRST.date()}, {"x": None, "tags": [], "when": None}],
            [],
            [{"x": -1, "tags": ["", "b"], "when": LAST.date()}],
        ],
    ),
    (
        POINT,
        "STRUCT<x: INT, tags: ARRAY<STRING>, when: DATE>",
        [
            {"x": 1, "tags": ["a"], "when": FIRST.date()},
            None,
            {"x": None, "tags": [], "when": None},
        ],
    ),
    (pa.map_(pa.string(), pa.int64()), "MAP<STRING, BIGINT>", [[("", 0), ("k", -(2**63))], [], [("é", 1)]]),
    (
        pa.map_(pa.int32(), POINT),
        "MAP<INT, STRUCT<x: INT, tags: ARRAY<STRING>, when: DATE>>",
        [
            [(-1, {"x": 0, "tags": [], "when": None})],
            [],
            [(0, {"x": None, "tags": ["t"], "when": FIRST.date()})],
        ],
    ),
]


def test_every_delta_type_keeps_its_extremes(online: MakeWrapper, tmp_path: Path) -> None:
    arrays = {"id": pa.array([0, 1, 2], pa.int64())}
    arrays |= {f"c{n}": pa.array(values, kind) for n, (kind, _, values) in enumerate(COLUMNS)}
    batch = pa.record_batch(arrays)
    ddl = ", ".join(["id BIGINT NOT NULL", *(f"c{n} {delta}" for n, (_, delta, _) in enumerate(COLUMNS))])
    with Emulator(data_dir=tmp_path / "typed", tables={TABLE: ddl}) as typed:

        async def main() -> None:
            here = {"endpoint": typed.endpoint, "unity_catalog_url": typed.unity_catalog_url}
            async with online(**here) as wrapper:
                # Slices, so that offsets count.
                await wrapper.send_batch(batch.slice(1))
                await wrapper.send_batch(batch.slice(0, 1))
                await wrapper.flush(timeout=60)

        asyncio.run(main())
        landed = DeltaTable(str(typed.table_path(TABLE))).to_pyarrow_table().sort_by("id")
    assert landed.num_rows == 3
    for n, (kind, delta, values) in enumerate(COLUMNS):
        assert landed[f"c{n}"].to_pylist() == values, f"{kind} in {delta}"
