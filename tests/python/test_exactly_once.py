"""``delivery="exactly_once"`` from Python.

Goal: the keyword does what it says. Method: a real emulator that drops acknowledgements, and ``deltalake`` as
the reader.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ConfigurationError, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, MakeWrapper


def test_rows_land_once_although_their_acknowledgements_are_lost(tmp_path: Path) -> None:
    async def deliver(emulator: Emulator) -> None:
        async with ZerobusWrapper(
            endpoint=emulator.endpoint,
            table_name=TABLE,
            client_id="id",
            client_secret="s3cret",
            unity_catalog_url=emulator.unity_catalog_url,
            wal_dir=tmp_path / "wal",
            delivery="exactly_once",
            retry_base_delay_ms=10,
            retry_max_delay_ms=100,
            retry_max_attempts=1_000,
        ) as wrapper:
            for start in range(0, 100, 10):
                await wrapper.send_batch(pa.record_batch({"id": list(range(start, start + 10))}))
                await wrapper.flush(timeout=60)
            status = wrapper.status()
            lane = status["lane"]
            assert lane is not None and lane["stream_id"] is not None and lane["failures"] >= 2
            assert (status["doubtful_rows"], lane["resent_rows"]) == (0, 0)

    tables = {TABLE: "id BIGINT"}
    with Emulator(data_dir=tmp_path / "tables", tables=tables, commit_interval_ms=20) as emulator:
        emulator.faults({"fault": "drop_ack", "after": 1, "times": 2})
        asyncio.run(deliver(emulator))
        landed = DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table()
        assert sorted(landed["id"].to_pylist()) == list(range(100))


def test_a_wrong_guarantee_is_named_with_what_is_allowed(offline: MakeWrapper) -> None:
    with pytest.raises(
        ConfigurationError, match="delivery is 'once', allowed is: 'at_least_once', 'exactly_once'"
    ):
        offline(delivery="once")
    with pytest.raises(ConfigurationError, match='transport="protobuf"'):
        offline(delivery="exactly_once", transport="arrow_flight")
