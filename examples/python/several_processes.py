"""Four workers with one ``wal_dir``; one is killed, and its rows arrive all the same.

Each worker has a log of its own. What a killed one has stored is delivered by those that live, by the next
process of this table, or, when there is none, by ``zerobus-wal drain``.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import ZerobusWrapper

WORKERS = 4
BATCHES = 50
ROWS = 100


async def send(worker: int) -> None:
    """Sends the rows of one worker."""
    async with ZerobusWrapper.from_env() as wrapper:
        first = worker * BATCHES * ROWS
        for ids in (range(first + batch * ROWS, first + (batch + 1) * ROWS) for batch in range(BATCHES)):
            await wrapper.send_batch(pa.record_batch({"id": pa.array(ids, pa.int64())}))
        if worker == 0:
            # It dies before it has delivered everything, and cleans nothing up.
            os.kill(os.getpid(), signal.SIGKILL)


def work(worker: int) -> None:
    """What a child process does."""
    asyncio.run(send(worker))


def main() -> None:
    """Runs the workers, then delivers what the killed one has left."""
    # A fork would have none of the threads of a wrapper: spawn the workers.
    spawned = multiprocessing.get_context("spawn")
    processes = [spawned.Process(target=work, args=(number,)) for number in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(f"the workers have ended with {[process.exitcode for process in processes]}", flush=True)
    # It reads the endpoint from the log, and the credentials from the environment as the workers did.
    subprocess.run(["zerobus-wal", "drain", os.environ["ARROW_ZEROBUS_WAL_DIR"]], check=True)


if __name__ == "__main__":
    main()
