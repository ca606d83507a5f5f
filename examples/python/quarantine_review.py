"""Rows that the table refuses are set aside with the reason: look at them, mend them, send them again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import TransmissionError, ZerobusWrapper

# The table's column `value` is an INT.
INT_MAX = 2**31 - 1


def mended(rows: pa.Table) -> pa.Table:
    """The rows as they were sent, with values that fit."""
    rows = rows.select(["id", "name", "value"])
    values = [min(value, INT_MAX) for value in rows["value"].to_pylist()]
    return rows.set_column(2, "value", pa.array(values, pa.int64()))


def files(wrapper: ZerobusWrapper) -> list[Path]:
    """The files of the quarantine, the oldest rows first."""
    return sorted(Path(wrapper.status()["quarantine"]["directory"]).glob("*.arrow"))


async def main() -> None:
    """Sends a row that does not fit among others."""
    async with ZerobusWrapper.from_env() as wrapper:
        rows = {"id": [1, 2, 3], "name": ["a", "b", "c"], "value": [10, 2**40, 30]}
        await wrapper.send_batch(pa.record_batch(rows))
        try:
            await wrapper.flush(timeout=60)
        except TransmissionError as error:
            print(error)
        print(f"{wrapper.status()['rows']['delivered']} rows are delivered all the same")

        for file in files(wrapper):
            with pa.ipc.open_file(file) as reader:
                refused = reader.read_all()
            print(file.name, refused.to_pylist())
            for batch in mended(refused).to_batches():
                await wrapper.send_batch(batch)
            # Only now that the rows are in the log again.
            file.unlink()
        await wrapper.flush(timeout=60)
        print(f"{wrapper.status()['rows']['delivered']} rows are delivered now")


asyncio.run(main())
