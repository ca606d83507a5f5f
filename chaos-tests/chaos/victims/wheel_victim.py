"""A producer that uses the installed wheel, announces what it does, and sends until somebody ends it.

Its orders are the first line of its standard input, later lines are commands: ``close`` and ``drain``. The
end of the input means ``close``, so no victim outlives the suite. Standard output has the announcements,
described in ``announcements.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import pyarrow as pa

from arrow_zerobus_sdk_wrapper import (
    RetryExhausted,
    SyncZerobusWrapper,
    TransmissionError,
    ZerobusError,
    ZerobusWrapper,
    admin,
)
from chaos.rows import content, digest

# A producer that was refused does not fill the disk with its announcements.
_PAUSE_AFTER_REFUSAL_SECS = 0.01
_SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("content", pa.string())])


def announce(event: str, **fields: Any) -> None:
    """Says one thing with one write, so that a kill leaves whole lines only."""
    # Paths are announced as text.
    line = json.dumps({"event": event, "at_ns": time.monotonic_ns(), **fields}, default=str) + "\n"
    os.write(1, line.encode())


def describe(error: ZerobusError) -> dict[str, Any]:
    """What is announced of an error."""
    return {
        "error": type(error).__name__,
        "code": error.code,
        "message": str(error),
        "retryable": error.retryable,
        "lsn": error.lsn,
    }


class Producing:
    """What the producers share: the next number, and how long they go on."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.stopped = threading.Event()
        self.directory = ""
        self._lock = threading.Lock()
        self._next_id = int(orders["first_id"])
        self._left = orders["batches"]
        self._number = 0

    def batch(self, producer: int, random: Random) -> tuple[int, pa.RecordBatch] | None:
        """Makes and announces the next batch; None if there shall be no more."""
        rows = random.randint(*self.orders["rows"])
        with self._lock:
            if self.stopped.is_set() or self._left == 0:
                return None
            if self._left is not None:
                self._left -= 1
            self._number += 1
            number, first = self._number, self._next_id
            self._next_id += rows
        ids = range(first, first + rows)
        contents = [content(row_id) for row_id in ids]
        hashed = digest(zip(ids, contents, strict=True))
        bad = self.orders["bad_rows"]
        # What is hashed is the row as it should be; the table takes no row without a text.
        # A text that fits into no request, or none.
        bad_text = "x" * self.orders["bad_text_bytes"] or None
        sent = [
            bad_text if bad and number % bad == 0 and at == 0 else text for at, text in enumerate(contents)
        ]
        batch = pa.record_batch([pa.array(ids, pa.int64()), pa.array(sent, pa.string())], schema=_SCHEMA)
        announce(
            "intent",
            batch=number,
            producer=producer,
            first=first,
            rows=rows,
            hash=hashed,
            bad=[first] if bad and number % bad == 0 else [],
        )
        return number, batch

    def acknowledged(self, number: int, lsn: int | None, durable: bool) -> None:
        """``send_batch`` has returned."""
        announce("ack", batch=number, lsn=lsn, directory=self.directory, durable=durable)

    def raised(self, number: int, error: ZerobusError) -> bool:
        """``send_batch`` has raised; whether the batch is stored all the same."""
        if isinstance(error, RetryExhausted | TransmissionError) and error.lsn is not None:
            self.acknowledged(number, error.lsn, durable=True)
            return True
        announce("refused", batch=number, **describe(error))
        return False


async def produce(wrapper: ZerobusWrapper, producing: Producing, producer: int) -> None:
    """One task."""
    random = Random(f"{producing.orders['seed']}-{producer}")
    while (made := producing.batch(producer, random)) is not None:
        number, batch = made
        pause = producing.orders["pause_ms"] / 1000
        try:
            result = await wrapper.send_batch(batch)
        except ZerobusError as error:
            if not producing.raised(number, error):
                pause = max(pause, _PAUSE_AFTER_REFUSAL_SECS)
        else:
            producing.acknowledged(number, result.lsn, result.durable)
        if pause:
            await asyncio.sleep(pause)


def produce_in_thread(wrapper: SyncZerobusWrapper, producing: Producing, producer: int) -> None:
    """One thread."""
    random = Random(f"{producing.orders['seed']}-{producer}")
    try:
        while (made := producing.batch(producer, random)) is not None:
            number, batch = made
            pause = producing.orders["pause_ms"] / 1000
            try:
                result = wrapper.send_batch(batch)
            except ZerobusError as error:
                if not producing.raised(number, error):
                    pause = max(pause, _PAUSE_AFTER_REFUSAL_SECS)
            else:
                producing.acknowledged(number, result.lsn, result.durable)
            if pause:
                time.sleep(pause)
    except BaseException:
        announce("broken", error=traceback.format_exc())
        os._exit(70)


def drained(orders: dict[str, Any]) -> list[dict[str, Any]] | None:
    """How all logs of the directory stand, if nothing waits any more in any of them."""
    statuses = admin.status(orders["settings"]["wal_dir"])
    is_over = all(status.rows.waiting == 0 and status.adoption.draining is None for status in statuses)
    return [dataclasses.asdict(status) for status in statuses] if is_over else None


def resident_bytes() -> int:
    """The anonymous memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


async def run_async(orders: dict[str, Any]) -> None:
    """Tasks on one event loop."""
    announce("opening")
    wrapper = ZerobusWrapper(**orders["settings"])
    producing = Producing(orders)
    producing.directory = wrapper.status()["directory"]
    announce("open", directory=producing.directory, damage=wrapper.status()["damage"])
    tasks = [asyncio.create_task(produce(wrapper, producing, n)) for n in range(orders["producers"])]
    loop = asyncio.get_running_loop()
    commands: asyncio.Queue[str] = asyncio.Queue()
    threading.Thread(target=read_commands, args=(loop, commands), daemon=True).start()
    failing = asyncio.gather(*tasks)
    while True:
        command = asyncio.create_task(commands.get())
        waiting: set[Any] = {command} if failing.done() else {command, failing}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            failing.result()
        if not command.done():
            command.cancel()
            continue
        match command.result():
            case "drain":
                producing.stopped.set()
                await failing
                while (statuses := drained(orders)) is None:
                    try:
                        await wrapper.flush(timeout=0.2)
                    except ZerobusError as error:
                        announce("failed", during="flush", **describe(error))
                        await asyncio.sleep(0.01)
                announce("drained", statuses=statuses)
            case _:
                break
    announce("closing")
    producing.stopped.set()
    status = wrapper.status()
    await wrapper.shutdown()
    await asyncio.gather(failing, return_exceptions=True)
    announce("closed", status=status)


def read_commands(loop: asyncio.AbstractEventLoop, commands: asyncio.Queue[str]) -> None:
    """Hands the lines of the standard input to the event loop."""
    for line in sys.stdin:
        loop.call_soon_threadsafe(commands.put_nowait, line.strip())
    loop.call_soon_threadsafe(commands.put_nowait, "close")


def run_sync(orders: dict[str, Any]) -> None:
    """Threads, without an event loop."""
    announce("opening")
    wrapper = SyncZerobusWrapper(**orders["settings"])
    producing = Producing(orders)
    producing.directory = wrapper.status()["directory"]
    announce("open", directory=producing.directory, damage=wrapper.status()["damage"])
    threads = [
        threading.Thread(target=produce_in_thread, args=(wrapper, producing, n), daemon=True)
        for n in range(orders["producers"])
    ]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        if line.strip() != "drain":
            break
        producing.stopped.set()
        for thread in threads:
            thread.join()
        while (statuses := drained(orders)) is None:
            try:
                wrapper.flush(timeout=0.2)
            except ZerobusError as error:
                announce("failed", during="flush", **describe(error))
                time.sleep(0.01)
        announce("drained", statuses=statuses)
    announce("closing")
    producing.stopped.set()
    status = wrapper.status()
    wrapper.shutdown()
    for thread in threads:
        thread.join()
    announce("closed", status=status)


def main() -> None:
    """Runs until it is told to close, or killed."""
    orders = json.loads(sys.stdin.readline())
    announce("ready", pid=os.getpid(), resident_bytes=resident_bytes())
    try:
        if orders["api"] == "sync":
            run_sync(orders)
        else:
            asyncio.run(run_async(orders))
    except ZerobusError as error:
        announce("failed", during="open or close", **describe(error))
        sys.exit(1)
    except BaseException:
        announce("broken", error=traceback.format_exc())
        sys.exit(70)


if __name__ == "__main__":
    main()
