"""Arrow Flight from Python: what protobuf cannot carry lands, and is read back by another reader of Delta.

Goal: ``transport`` and ``compression`` do what they say. Method: a real emulator, and ``deltalake`` as the
reader.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ConfigurationError, ConversionError, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, MakeWrapper

COLUMNS = "id BIGINT NOT NULL, tags ARRAY<STRING>, grid ARRAY<ARRAY<INT>>, price DECIMAL(10,2)"
ROWS: list[dict[str, Any]] = [
    {"id": 1, "tags": ["a", None], "grid": [[1, None], None, []], "price": None},
    {"id": 2, "tags": None, "grid": None, "price": "12.50"},
    {"id": 3, "tags": [], "grid": [], "price": "-0.01"},
]


def rows() -> pa.RecordBatch:
    """The rows as pyarrow has them."""
    return pa.record_batch(
        {
            "id": pa.array([row["id"] for row in ROWS], pa.int32()),
            "tags": pa.array([row["tags"] for row in ROWS], pa.list_(pa.string())),
            "grid": pa.array([row["grid"] for row in ROWS], pa.large_list(pa.list_(pa.int64()))),
            "price": pa.array([row["price"] for row in ROWS], pa.string()).cast(pa.decimal128(10, 2)),
        }
    )


@pytest.mark.parametrize("compression", [None, "none", "lz4", "zstd"])
def test_nulls_in_lists_and_lists_of_lists_land_over_arrow_flight(tmp_path: Path, compression: Any) -> None:
    async def deliver(emulator: Emulator) -> None:
        async with ZerobusWrapper(
            endpoint=emulator.endpoint,
            table_name=TABLE,
            client_id="id",
            client_secret="s3cret",
            unity_catalog_url=emulator.unity_catalog_url,
            wal_dir=tmp_path / "wal",
            transport="arrow_flight",
            compression=compression,
        ) as wrapper:
            await wrapper.send_batch(rows())
            await wrapper.flush(timeout=60)
            assert wrapper.status()["emptied_lists"] == 0

    with Emulator(data_dir=tmp_path / "tables", tables={TABLE: COLUMNS}) as emulator:
        asyncio.run(deliver(emulator))
        landed = DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table().sort_by("id").to_pylist()
    expected = [dict(row) for row in ROWS]
    for row in landed:
        row["price"] = None if row["price"] is None else str(row["price"])
    assert landed == expected


def test_what_protobuf_cannot_carry_names_the_transport_that_can(
    offline: MakeWrapper, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match='transport="arrow_flight"'):
        asyncio.run(offline().send_batch(rows()))
    stored = asyncio.run(offline(transport="arrow_flight", wal_dir=tmp_path / "other").send_batch(rows()))
    assert stored.durable


def test_a_wrong_transport_or_compression_is_named_with_what_is_allowed(offline: MakeWrapper) -> None:
    with pytest.raises(
        ConfigurationError, match="transport is 'grpc', allowed is: 'protobuf', 'arrow_flight'"
    ):
        offline(transport="grpc")
    with pytest.raises(ConfigurationError, match="compression is 'gzip'"):
        offline(transport="arrow_flight", compression="gzip")
    with pytest.raises(ConfigurationError, match='only transport="arrow_flight" compresses'):
        offline(compression="zstd")
