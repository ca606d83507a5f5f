"""What must work where nothing but the wheel and arro3 is installed; run by ``try_wheel.py``."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path

from arro3.core import Array, DataType, RecordBatch

import arrow_zerobus_sdk_wrapper
from arrow_zerobus_sdk_wrapper import TransmissionResult, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator

TABLE = "main.default.events"


async def deliver(emulator: Emulator) -> TransmissionResult:
    """Sends a batch and waits until it is in the table."""
    ids, names = Array([1, 2], DataType.int64()), Array(["a", None], DataType.string())
    batch = RecordBatch.from_pydict({"id": ids, "name": names})
    async with ZerobusWrapper(table_name=TABLE, wal_dir="wal", **emulator.settings) as wrapper:
        result = await wrapper.send_batch(batch)
        await wrapper.flush()
        assert wrapper.status()["rows"]["delivered"] == 2
    return result


def main() -> None:
    """Delivers, and asks the command for the status."""
    assert importlib.util.find_spec("pyarrow") is None
    with Emulator(data_dir="tables", tables={TABLE: "id BIGINT, name STRING"}) as emulator:
        assert asyncio.run(deliver(emulator)).lsn == 1
        assert list(emulator.table_path(TABLE).glob("*.parquet"))
    command = Path(sys.executable).with_name("zerobus-wal")
    done = subprocess.run([command, "status", "wal"], capture_output=True, text=True, check=True)
    assert TABLE in done.stdout
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert told.split()[-1] == arrow_zerobus_sdk_wrapper.__version__


if __name__ == "__main__":
    main()
