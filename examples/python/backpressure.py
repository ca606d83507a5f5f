"""What a producer does when the log is full: here it keeps the newest value of each sensor.

With ``on_full="block"``, the default, ``send_batch`` simply waits. A producer that cannot wait, because its
source goes on, takes ``"reject"`` and decides by itself what to leave out. Nothing that was stored is ever
left out.
"""

from __future__ import annotations

import asyncio

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import BufferFullError, ZerobusWrapper

READINGS = 300
SENSORS = 2_000


async def main() -> None:
    """Produces faster than a log of one megabyte drains."""
    async with ZerobusWrapper.from_env(
        on_full="reject", wal_max_bytes=1024 * 1024, wal_min_free_bytes=0
    ) as wrapper:
        merged, kept = 0, dict[int, int]()
        for reading in range(READINGS):
            kept |= dict.fromkeys(range(SENSORS), reading)
            batch = pa.record_batch(
                {
                    "id": pa.array(kept.keys(), pa.int64()),
                    "name": pa.array([f"sensor {sensor}" for sensor in kept], pa.string()),
                    "value": pa.array(kept.values(), pa.int32()),
                }
            )
            try:
                await wrapper.send_batch(batch)
            except BufferFullError:
                # Nothing of the batch was stored. The next reading takes its place.
                merged += 1
            else:
                kept.clear()
        await wrapper.flush(timeout=60)
        print(f"{READINGS} readings, {merged} of them were overtaken by newer ones, {len(kept)} are left")


asyncio.run(main())
