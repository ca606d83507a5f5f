"""From ``send_batch`` to the Delta table of a local Zerobus, read by another library."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import AuthenticationError, TransmissionError, ZerobusError, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import COLUMNS, TABLE, MakeWrapper, make_batch, until


def landed(emulator: Emulator, table: str = TABLE) -> list[dict[str, Any]]:
    """The rows of a table, in the order of their ids."""
    rows = DeltaTable(str(emulator.table_path(table))).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: row["id"])


def reason(wrapper: ZerobusWrapper) -> str | None:
    """Why nothing is delivered."""
    lane = wrapper.status()["lane"]
    return lane["reason"] if lane else None


def test_what_was_stored_lands_once_flushed(emulator: Emulator, online: MakeWrapper) -> None:
    async def main() -> None:
        async with online() as wrapper:
            for first in range(0, 1000, 100):
                await wrapper.send_batch(make_batch(first, 100))
            await wrapper.flush(timeout=60)
            assert wrapper.status()["rows"]["waiting"] == 0

    asyncio.run(main())
    assert landed(emulator) == make_batch(0, 1000).to_pylist()


def test_a_delivered_batch_is_in_the_table_when_the_call_returns(
    emulator: Emulator, online: MakeWrapper
) -> None:
    async def main() -> None:
        async with online(wait_for="delivered") as wrapper:
            result = await wrapper.send_batch(make_batch())
            assert (result.state, result.success, result.durable) == ("delivered", True, True)
            assert result.attempts >= 1
            assert landed(emulator) == make_batch().to_pylist()

    asyncio.run(main())


def test_wait_delivered_takes_a_result_and_a_number(emulator: Emulator, online: MakeWrapper) -> None:
    async def main() -> None:
        async with online() as wrapper:
            result = await wrapper.send_batch(make_batch())
            assert result.state == "stored"
            for handle in (result, result.lsn):
                assert handle is not None
                delivered = await wrapper.wait_delivered(handle, timeout=60)
                assert (delivered.state, delivered.lsn) == ("delivered", result.lsn)

    asyncio.run(main())
    assert len(landed(emulator)) == 3


def test_every_type_of_this_version_keeps_its_values(online: MakeWrapper, tmp_path: Path) -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    zoned = when.replace(tzinfo=datetime.UTC)
    columns: dict[str, tuple[pa.DataType, str, list[Any]]] = {
        "id": (pa.int64(), "BIGINT", [1, 2, 3]),
        "flag": (pa.bool_(), "BOOLEAN", [True, None, False]),
        "tiny": (pa.int8(), "TINYINT", [-128, None, 127]),
        "small": (pa.int16(), "SMALLINT", [-(2**15), None, 2**15 - 1]),
        "whole": (pa.int32(), "INT", [-(2**31), None, 2**31 - 1]),
        "big": (pa.int64(), "BIGINT", [-(2**63), None, 2**63 - 1]),
        "single": (pa.float32(), "FLOAT", [0.5, None, -0.25]),
        "double": (pa.float64(), "DOUBLE", [0.1, None, float("inf")]),
        "text": (pa.string(), "STRING", ["", None, "naïve ☃"]),
        "bytes": (pa.binary(), "BINARY", [b"", None, b"\x00\xff"]),
        "day": (pa.date32(), "DATE", [when.date(), None, datetime.date(1900, 1, 1)]),
        "moment": (pa.timestamp("us", "UTC"), "TIMESTAMP", [zoned, None, zoned]),
        "kind": (pa.dictionary(pa.int8(), pa.string()), "STRING", ["a", None, "a"]),
    }
    schema = pa.schema([(name, kind) for name, (kind, _, _) in columns.items()])
    rows = [{name: values[index] for name, (_, _, values) in columns.items()} for index in range(3)]
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    ddl = ", ".join(f"{name} {delta}" for name, (_, delta, _) in columns.items())
    with Emulator(data_dir=tmp_path / "typed", tables={TABLE: ddl}) as typed:
        here = {"endpoint": typed.endpoint, "unity_catalog_url": typed.unity_catalog_url}

        async def main() -> None:
            async with online(**here) as wrapper:
                # Slices, so that offsets count.
                await wrapper.send_batch(batch.slice(1))
                await wrapper.send_batch(batch.slice(0, 1))
                await wrapper.flush(timeout=60)

        asyncio.run(main())
        assert landed(typed) == rows


def test_a_killed_service_costs_time_and_no_rows(emulator: Emulator, online: MakeWrapper) -> None:
    async def main() -> None:
        async with online() as wrapper:
            await wrapper.send_batch(make_batch(0))
            await wrapper.flush(timeout=60)
            emulator.kill()
            await wrapper.send_batch(make_batch(3))
            until(lambda: reason(wrapper) is not None, "the status says why nothing is delivered")
            assert wrapper.status()["rows"]["waiting"] == 3
            emulator.restart()
            delivered = False
            while not delivered:
                try:
                    await wrapper.flush(timeout=60)
                    delivered = True
                except ZerobusError as error:
                    assert error.retryable, error

    asyncio.run(main())
    assert landed(emulator) == make_batch(0, 6).to_pylist()


def test_what_one_wrapper_left_is_delivered_by_the_next(emulator: Emulator, online: MakeWrapper) -> None:
    emulator.kill()
    with online(shutdown_timeout_secs=0) as wrapper:
        assert asyncio.run(wrapper.send_batch(make_batch())).lsn == 1
    emulator.restart()

    async def main() -> None:
        async with online() as wrapper:
            assert wrapper.status()["rows"]["waiting"] == 3
            assert (await wrapper.send_batch(make_batch(3))).lsn == 2
            await wrapper.wait_delivered(1, timeout=60)
            await wrapper.flush(timeout=60)

    asyncio.run(main())
    assert landed(emulator) == make_batch(0, 6).to_pylist()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"client_secret": "wrong"}, AuthenticationError),
        ({"table_name": "main.default.missing"}, TransmissionError),
    ],
    ids=["wrong secret", "missing table"],
)
def test_a_refusal_parks_the_batch_and_says_why(
    online: MakeWrapper, settings: dict[str, str], error: type[ZerobusError]
) -> None:
    async def main() -> None:
        async with online(**settings, shutdown_timeout_secs=0) as wrapper:
            assert (await wrapper.send_batch(make_batch())).state == "stored"
            with pytest.raises(error) as caught:
                await wrapper.flush(timeout=60)
            assert "wrong" not in str(caught.value)
            status = wrapper.status()
            assert status["lane"] is not None
            assert status["lane"]["state"] == "blocked"
            assert status["lane"]["reason"]
            assert status["rows"]["waiting"] == 3

    asyncio.run(main())


def test_a_table_that_is_made_later_gets_everything(
    emulator: Emulator, online: MakeWrapper, tmp_path: Path
) -> None:
    with Emulator(data_dir=tmp_path / "other", tables={TABLE: COLUMNS}, auto_create=True) as other:

        async def main() -> None:
            async with online(
                endpoint=other.endpoint,
                unity_catalog_url=other.unity_catalog_url,
                table_name="main.default.fresh",
            ) as wrapper:
                await wrapper.send_batch(make_batch())
                await wrapper.flush(timeout=60)

        asyncio.run(main())
        assert landed(other, "main.default.fresh") == make_batch().to_pylist()
