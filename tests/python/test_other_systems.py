"""What other operating systems lack, taken away from this one: the package does without it.

Goal: Windows has event loops that watch no sockets, no ``poll`` and no ``fork``; whatever stands in for
them is tried here. Method: an event loop that refuses to watch as that of Windows does, and processes in
which the functions are taken away before the package is imported; real logs, a local Zerobus.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVarTuple

from arrow_zerobus_sdk_wrapper import ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import PYTHON, TABLE, make_batch, offline_settings, until

_Arguments = TypeVarTuple("_Arguments")


class Unwatching(asyncio.SelectorEventLoop):
    """A loop that watches no sockets, as that of Windows."""

    def add_reader(self, fd: Any, callback: Callable[[*_Arguments], Any], *args: *_Arguments) -> None:
        raise NotImplementedError


def watchers() -> list[threading.Thread]:
    """The threads that watch for such loops."""
    return [thread for thread in threading.enumerate() if thread.name == "arrow-zerobus-loop"]


def run_unwatching(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=Unwatching) as runner:
        return runner.run(coroutine)


def test_on_a_loop_that_watches_no_sockets_everything_is_stored_and_delivered(
    emulator: Emulator, tmp_path: Path
) -> None:
    async def deliver() -> int:
        wrapper = ZerobusWrapper(table_name=TABLE, wal_dir=tmp_path / "wal", **emulator.settings)
        async with wrapper:
            await asyncio.gather(*(wrapper.send_batch(make_batch(3 * i)) for i in range(500)))
            await wrapper.flush(timeout=60)
            delivered: int = wrapper.status()["rows"]["delivered"]
        return delivered

    assert run_unwatching(deliver()) == 1500
    until(lambda: not watchers(), "the thread of a closed loop ends")


def test_what_watches_for_a_loop_does_not_keep_it_alive(offline: Callable[..., ZerobusWrapper]) -> None:
    loop = Unwatching()
    wrapper = offline()
    loop.run_until_complete(wrapper.send_batch(make_batch()))
    assert len(watchers()) == 1
    known = weakref.ref(loop)
    loop.close()
    del loop
    until(lambda: gc.collect() >= 0 and known() is None, "the loop is freed")
    until(lambda: not watchers(), "its thread ends")


WITHOUT = """
import asyncio, concurrent.futures, logging, os, random, select, subprocess, sys, tempfile, threading
import pyarrow as pa
del select.poll, os.register_at_fork
from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper, ZerobusWrapper

logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s")
settings = {settings!r}
batch = pa.record_batch({{"id": [1], "name": ["a"]}})
with SyncZerobusWrapper(**settings) as wrapper:
    print("stored", wrapper.send_batch(batch).lsn)

async def store():
    async with ZerobusWrapper(**settings) as wrapper:
        print("stored", (await wrapper.send_batch(batch)).lsn)

asyncio.run(store())
"""


def test_without_poll_and_fork_both_wrappers_store_and_the_log_is_told(tmp_path: Path) -> None:
    settings = {
        name: str(value) if name == "wal_dir" else value for name, value in offline_settings(tmp_path).items()
    }
    done = subprocess.run(
        [*PYTHON, "-c", WITHOUT.format(settings=settings)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "stored 1" in lines and "stored 2" in lines
    assert any(line.startswith("arrow_zerobus_sdk_wrapper.") for line in lines), done.stdout
