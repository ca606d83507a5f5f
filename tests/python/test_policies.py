"""What happens at the bounds of a log: who waits, who is turned away, what is dropped, what is kept."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import (
    BatchTooLargeError,
    BufferFullError,
    ConfigurationError,
    TransmissionError,
    ZerobusWrapper,
)
from arrow_zerobus_sdk_wrapper._results import Counts, Status
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, TABLE, MakeWrapper, make_batch, until

MIB = 2**20
ROWS = 1000
SMALL: dict[str, Any] = {"wal_max_bytes": MIB, "wal_min_free_bytes": 0, "shutdown_timeout_secs": 0}
SCRIPT = Path(sys.executable).with_name("zerobus-wal")


async def fill(wrapper: ZerobusWrapper) -> int:
    """Sends batches until the log is full; how many it took."""
    for number in range(1000):
        try:
            await wrapper.send_batch(make_batch(number * ROWS, ROWS))
        except BufferFullError:
            return number
    raise AssertionError(wrapper.status())


def assert_conserved(status: Status) -> None:
    def is_conserved(counts: Counts) -> bool:
        return counts["stored"] == counts["delivered"] + counts["dropped"] + counts["waiting"]

    assert is_conserved(status["rows"]), status
    assert is_conserved(status["frames"]), status


def landed(emulator: Emulator) -> list[int]:
    """The ids in the table, in order."""
    ids = DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table().column("id").to_pylist()
    return sorted(ids)


def test_a_full_log_that_rejects_is_a_buffer_full_error_that_can_be_retried(offline: MakeWrapper) -> None:
    wrapper = offline(**SMALL, on_full="reject")
    stored = asyncio.run(fill(wrapper))
    with pytest.raises(BufferFullError, match=f"{MIB} bytes that wal_max_bytes allows") as caught:
        asyncio.run(wrapper.send_batch(make_batch(0, 2 * ROWS)))
    assert (caught.value.code, caught.value.retryable) == ("buffer_full", True)
    assert (caught.value.lsn, caught.value.table) == (None, TABLE)
    assert "delivery is " in str(caught.value)
    status = wrapper.status()
    assert_conserved(status)
    assert (status["frames"]["stored"], status["on_full"]) == (stored, "reject")
    assert "wal_max_bytes" in (status["full"] or "")
    assert (status["wal_max_bytes"], status["wal_min_free_bytes"]) == (MIB, 0)


def test_a_wait_ends_after_block_timeout_secs(offline: MakeWrapper) -> None:
    wrapper = offline(**SMALL, block_timeout_secs=0.05)
    stored = asyncio.run(fill(wrapper))
    with pytest.raises(BufferFullError, match=r"no room was made within 0\.05 s \(block_timeout_secs\)"):
        asyncio.run(wrapper.send_batch(make_batch(0, 2 * ROWS)))
    assert wrapper.status()["frames"]["stored"] == stored


def test_a_timeout_where_nobody_waits_is_refused(tmp_path: Path, offline: MakeWrapper) -> None:
    with pytest.raises(ConfigurationError, match=r"block_timeout_secs .* on_full = reject"):
        offline(on_full="reject", block_timeout_secs=1)
    assert not (tmp_path / "wal").exists()


def test_a_disk_below_its_floor_is_a_full_log_that_names_the_setting(offline: MakeWrapper) -> None:
    wrapper = offline(wal_min_free_bytes=2**62, on_full="reject")
    with pytest.raises(BufferFullError, match="set wal_min_free_bytes lower"):
        asyncio.run(wrapper.send_batch(make_batch()))
    status = wrapper.status()
    assert status["free_bytes"] is not None
    assert str(2**62) in (status["full"] or "")
    assert status["frames"]["stored"] == 0


def test_a_batch_that_can_never_fit_names_the_setting_that_limits_it(offline: MakeWrapper) -> None:
    wrapper = offline(**SMALL)
    with pytest.raises(BatchTooLargeError, match=f"wal_max_bytes = {MIB}") as caught:
        asyncio.run(wrapper.send_batch(make_batch(0, 50 * ROWS)))
    assert not caught.value.retryable
    assert (wrapper.status()["frames"]["stored"], wrapper.status()["log_bytes"]) == (0, 0)


def test_what_waits_longest_is_dropped_and_never_said_to_be_delivered(
    emulator: Emulator, online: MakeWrapper
) -> None:
    sent = 150
    emulator.kill()

    async def main() -> Status:
        async with online(**(SMALL | {"shutdown_timeout_secs": 30}), on_full="drop_oldest") as wrapper:
            results = [await wrapper.send_batch(make_batch(n * ROWS, ROWS)) for n in range(sent)]
            assert_conserved(wrapper.status())
            with pytest.raises(TransmissionError, match="frame 1 was dropped"):
                await wrapper.wait_delivered(results[0])
            emulator.restart()
            until(lambda: wrapper.status()["rows"]["waiting"] == 0, "delivery")
            with pytest.raises(TransmissionError, match="were dropped because the log was full"):
                await wrapper.flush(timeout=60)
            await wrapper.flush(timeout=60)
            assert (await wrapper.wait_delivered(results[-1], timeout=60)).state == "delivered"
            return wrapper.status()

    status = asyncio.run(main())
    assert_conserved(status)
    dropped = status["rows"]["dropped"]
    assert 0 < dropped < sent * ROWS
    assert landed(emulator) == list(range(dropped, sent * ROWS))


def test_what_a_killed_process_has_dropped_stays_counted(tmp_path: Path, offline: MakeWrapper) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import UNREACHABLE, TABLE, make_batch
from arrow_zerobus_sdk_wrapper import ZerobusWrapper

async def main():
    wrapper = ZerobusWrapper(UNREACHABLE, TABLE, wal_dir={str(tmp_path / "wal")!r}, wal_max_bytes={MIB},
                             wal_min_free_bytes=0, on_full="drop_oldest")
    while True:
        lsn = (await wrapper.send_batch(make_batch(0, {ROWS}))).lsn
        print(lsn, wrapper.status()["rows"]["dropped"], flush=True)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lsn, dropped = 0, 0
        while dropped < 50 * ROWS:
            lsn, dropped = map(int, process.stdout.readline().split())
        process.kill()
    status = offline(**SMALL, on_full="drop_oldest").status()
    assert_conserved(status)
    assert status["rows"]["dropped"] >= dropped
    assert status["rows"]["stored"] >= lsn * ROWS


def test_retained_segments_survive_a_restart_and_are_not_delivered_again(
    emulator: Emulator, online: MakeWrapper
) -> None:
    kept: dict[str, Any] = {"segment_bytes": 64 * 1024, "retain_delivered_bytes": 16 * MIB}

    async def main(first: int) -> Status:
        async with online(**kept) as wrapper:
            for number in range(first, first + 20):
                await wrapper.send_batch(make_batch(number * ROWS, ROWS))
            await wrapper.flush(timeout=60)
            return wrapper.status()

    first = asyncio.run(main(0))
    assert first["retained_bytes"] > 20 * ROWS * 10
    second = asyncio.run(main(20))
    assert second["rows"]["delivered"] == 40 * ROWS
    assert second["retained_bytes"] > first["retained_bytes"]
    assert landed(emulator) == list(range(40 * ROWS))


def test_the_command_shows_the_bounds_and_what_was_dropped(tmp_path: Path, offline: MakeWrapper) -> None:
    wrapper = offline(**SMALL, on_full="drop_oldest")

    async def main() -> None:
        for number in range(100):
            await wrapper.send_batch(make_batch(number * ROWS, ROWS))

    asyncio.run(main())
    command = [str(SCRIPT), "status", str(tmp_path / "wal")]
    table = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECS, check=True).stdout
    assert "when full: drop_oldest" in table
    assert "of 1.00 MiB used" in table
    assert "were dropped because the log was full" in table
    text = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, timeout=DEADLINE_SECS, check=True
    ).stdout
    (log,) = json.loads(text)["logs"]
    assert log["on_full"] == "drop_oldest"
    assert log["rows"]["dropped"] == wrapper.status()["rows"]["dropped"] > 0
    assert set(log) >= {"wal_max_bytes", "wal_min_free_bytes", "free_bytes", "retained_bytes", "full"}


@pytest.mark.parametrize("keeps", [False, True])
def test_a_drain_frees_what_is_delivered_unless_it_is_to_keep_it(
    emulator: Emulator, online: MakeWrapper, tmp_path: Path, keeps: bool
) -> None:
    emulator.kill()
    with online(shutdown_timeout_secs=0, segment_bytes=64 * 1024) as wrapper:
        for number in range(20):
            asyncio.run(wrapper.send_batch(make_batch(number * ROWS, ROWS)))
    emulator.restart()
    environment = os.environ | {"ZEROBUS_CLIENT_ID": "id", "ZEROBUS_CLIENT_SECRET": "s3cret"}
    command = [str(SCRIPT), "drain", str(tmp_path / "wal"), *(["--keep"] if keeps else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    with online(retain_delivered_bytes=16 * MIB) as wrapper:
        status = wrapper.status()
    rows = {"stored": 20 * ROWS, "delivered": 20 * ROWS, "quarantined": 0, "dropped": 0, "waiting": 0}
    assert status["rows"] == rows
    assert (status["retained_bytes"] > 10 * ROWS * 10) == keeps, status
    assert landed(emulator) == list(range(20 * ROWS))
