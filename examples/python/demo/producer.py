"""The producer of the demo: streams the flights, from the row where it stopped the last time.

It keeps one number of its own, the rows whose ``send_batch`` has returned, and prints a JSON line with its
progress ten times a second. Killed at any moment and started again, it goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path

import flights
from arrow_zerobus_sdk_wrapper import ZerobusWrapper

REPORT_INTERVAL_SECS = 0.1


class Position:
    """Number of rows that are stored, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.rows = int(os.pread(self._file, 20, 0) or b"0")

    def advance(self, rows: int) -> None:
        """Counts more rows as stored. One write of fixed width: a kill leaves the old or the new number."""
        self.rows += rows
        os.pwrite(self._file, b"%020d" % self.rows, 0)


async def report(wrapper: ZerobusWrapper, position: Position) -> None:
    """Prints the progress until it is cancelled."""
    while True:
        print_progress(wrapper, position)
        await asyncio.sleep(REPORT_INTERVAL_SECS)


def print_progress(wrapper: ZerobusWrapper, position: Position) -> None:
    """Prints one line of progress."""
    rows = wrapper.status()["rows"]
    print(json.dumps({**rows, "stored": position.rows}), flush=True)


async def produce(arguments: argparse.Namespace) -> None:
    """Streams what is not stored yet, then waits until all of it is delivered."""
    table = flights.read()
    position = Position(arguments.position)
    async with ZerobusWrapper(
        arguments.endpoint,
        flights.TABLE,
        client_id=os.environ["DEMO_CLIENT_ID"],
        client_secret=os.environ["DEMO_CLIENT_SECRET"],
        unity_catalog_url=arguments.unity_catalog_url,
        wal_dir=arguments.wal_dir,
        retry_max_delay_ms=500,
    ) as wrapper:
        reporter = asyncio.create_task(report(wrapper, position))
        begun, first = time.monotonic(), position.rows
        for batch in table.slice(first).to_batches(max_chunksize=flights.BATCH_ROWS):
            await wrapper.send_batch(batch)
            position.advance(batch.num_rows)
            # The pace of a steady source, so that there is something to see.
            due = begun + (position.rows - first) / arguments.rows_per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await wrapper.flush(timeout=arguments.flush_timeout)
        reporter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporter
        print_progress(wrapper, position)


def main() -> int:
    """Reads the arguments and runs the producer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--unity-catalog-url", required=True)
    parser.add_argument("--wal-dir", required=True)
    parser.add_argument("--position", type=Path, required=True)
    parser.add_argument("--rows-per-second", type=float, default=20_000)
    parser.add_argument("--flush-timeout", type=float, default=60)
    asyncio.run(produce(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
