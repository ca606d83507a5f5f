"""Stores a batch, and waits until it is in the table."""

from __future__ import annotations

import asyncio

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import ZerobusWrapper


async def main() -> None:
    """Sends three rows."""
    async with ZerobusWrapper.from_env() as wrapper:
        batch = pa.record_batch({"id": [1, 2, 3], "name": ["a", "b", None]})

        result = await wrapper.send_batch(batch)
        print(f"stored on this machine as frame {result.lsn}, {result.batch_size_bytes} bytes")

        # There is no need to wait: the rows are delivered in any case, if need be by the next run.
        await wrapper.flush(timeout=60)
        print("delivered:", wrapper.status()["rows"]["delivered"], "rows")


asyncio.run(main())
