"""``streams=N`` from Python.

Goal: the keyword does what it says. Method: a real emulator whose first stream acknowledges nothing, and
``deltalake`` as the reader.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import ConfigurationError
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, MakeWrapper, make_batch, until
from test_command import command

ROWS = 8_000
FRAME_ROWS = 100


def test_a_stream_that_says_nothing_stops_no_other_and_a_restart_repeats_what_it_had_in_flight(
    emulator: Emulator, online: MakeWrapper
) -> None:
    small = {"max_inflight_requests": 2, "request_max_bytes": 1024}

    async def send() -> tuple[int, int]:
        wrapper = online(streams=4, shutdown_timeout_secs=0, **small)
        for start in range(0, ROWS, FRAME_ROWS):
            await wrapper.send_batch(make_batch(start, FRAME_ROWS))
        until(lambda: wrapper.status()["rows"]["delivered"] >= 1_000, "rows of the other streams")
        await wrapper.shutdown()
        status = wrapper.status()
        rows = status["rows"]
        assert rows["stored"] == ROWS
        assert rows["delivered"] + rows["waiting"] == ROWS
        return status["settled_lsn"], rows["delivered"]

    async def finish() -> None:
        async with online(**small) as wrapper:
            await wrapper.flush(timeout=60)
            assert wrapper.status()["rows"]["delivered"] == ROWS

    emulator.faults({"fault": "withhold_acks", "times": 1})
    settled_lsn, delivered = asyncio.run(send())
    emulator.faults(clear=True)
    asyncio.run(finish())
    landed = DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table()["id"].to_pylist()
    assert set(landed) == set(range(ROWS))
    doubled = len(landed) - ROWS
    assert 0 < doubled < delivered, f"{doubled} rows landed twice, {delivered} were delivered"
    # The watermark stood at the first frame that the silent stream held, and the others went on. Which frame
    # that is depends on who was first.
    first_held = min(row for row, times in Counter(landed).items() if times > 1) // FRAME_ROWS
    assert settled_lsn == first_held < delivered // FRAME_ROWS


def test_several_streams_with_exactly_once_are_refused_with_the_reason(
    offline: MakeWrapper, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r'streams is "2".*one persistent stream') as refused:
        offline(streams=2, delivery="exactly_once")
    assert not refused.value.retryable
    with pytest.raises(ConfigurationError, match=r"max_inflight_requests.*at most 500 with streams=4"):
        offline(streams=4, max_inflight_requests=501)
    assert not (tmp_path / "wal").exists()


def test_the_command_drains_with_several_streams_and_names_what_they_do_not_go_with(
    emulator: Emulator, online: MakeWrapper, tmp_path: Path
) -> None:
    emulator.kill()
    with online(shutdown_timeout_secs=0) as wrapper:
        for start in range(0, 100, 10):
            asyncio.run(wrapper.send_batch(make_batch(start, 10)))
    emulator.restart()
    drain = ("drain", tmp_path / "wal", "--streams", "4")
    secret = {"ZEROBUS_CLIENT_ID": "id", "ZEROBUS_CLIENT_SECRET": "s3cret"}
    refused = command(*drain, "--delivery", "exactly_once", **secret)
    assert refused.returncode == 2
    assert "one persistent stream" in refused.stderr
    done = command(*drain, **secret)
    assert done.returncode == 0, done.stderr
    assert "100 rows delivered" in done.stdout
    landed = DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table()["id"].to_pylist()
    assert sorted(landed) == list(range(100))
