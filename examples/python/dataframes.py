"""pandas, Polars and DuckDB in: whatever exports Arrow data can be sent as it is."""

from __future__ import annotations

import asyncio

import duckdb
import pandas as pd
import polars as pl

from arrow_zerobus_sdk_wrapper import ZerobusWrapper


async def main() -> None:
    """Sends three frames of three libraries."""
    async with ZerobusWrapper.from_env() as wrapper:
        frames = {
            "pandas": pd.DataFrame({"id": [1, 2], "name": ["a", None]}),
            "polars": pl.DataFrame({"id": [3, 4], "name": ["b", None]}),
            # A result of any size: it is stored batch by batch, as DuckDB computes it.
            "duckdb": duckdb.sql("SELECT range AS id, 'row ' || range AS name FROM range(5, 10000)"),
        }
        for library, frame in frames.items():
            result = await wrapper.send_batch(frame)
            print(f"{library}: {result.batch_size_bytes} bytes are stored, up to frame {result.lsn}")
        await wrapper.flush(timeout=60)


asyncio.run(main())
