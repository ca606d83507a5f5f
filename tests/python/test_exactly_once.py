"""``delivery="exactly_once"`` from Python.

Goal: the keyword does what it says. Method: a real emulator that drops acknowledgements, and ``deltalake`` as
the reader.
"""

from __future__ import annotations

import asyncio

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ConfigurationError
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, MakeWrapper, make_batch


def test_rows_land_once_although_their_acknowledgements_are_lost(
    emulator: Emulator, online: MakeWrapper
) -> None:
    async def deliver() -> None:
        async with online(
            delivery="exactly_once", retry_base_delay_ms=10, retry_max_delay_ms=100, retry_max_attempts=1_000
        ) as wrapper:
            for start in range(0, 100, 10):
                await wrapper.send_batch(make_batch(start, 10))
                await wrapper.flush(timeout=60)
            status = wrapper.status()
            lane = status["lane"]
            assert lane is not None and lane["stream_id"] is not None and lane["failures"] >= 2
            assert (status["doubtful_rows"], lane["resent_rows"]) == (0, 0)

    emulator.faults({"fault": "drop_ack", "after": 1, "times": 2})
    asyncio.run(deliver())
    landed = DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table()
    assert sorted(landed["id"].to_pylist()) == list(range(100))


def test_a_wrong_guarantee_is_named_with_what_is_allowed(offline: MakeWrapper) -> None:
    with pytest.raises(
        ConfigurationError, match="delivery is 'once', allowed is: 'at_least_once', 'exactly_once'"
    ):
        offline(delivery="once")
    with pytest.raises(ConfigurationError, match='transport="protobuf"'):
        offline(delivery="exactly_once", transport="arrow_flight")
