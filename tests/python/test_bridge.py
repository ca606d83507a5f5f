"""The bridge between asyncio and work that runs by itself: loops, threads, cancellation, memory."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import resource
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import ClosedError, StorageError, TransmissionResult, ZerobusWrapper, _bridge
from conftest import DEADLINE_SECS, MakeWrapper, make_batch, until

Run = Callable[..., Any]


def test_many_sends_at_once_get_numbers_without_a_gap(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()

    async def main() -> list[int | None]:
        return [r.lsn for r in await asyncio.gather(*(wrapper.send_batch(make_batch()) for _ in range(300)))]

    assert sorted(run(main())) == list(range(1, 301))


def test_many_loops_in_many_threads_share_a_wrapper(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()

    async def main() -> list[int | None]:
        return [(await wrapper.send_batch(make_batch())).lsn for _ in range(25)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        lsns = [lsn for future in [pool.submit(run, main()) for _ in range(8)] for lsn in future.result()]
    assert sorted(lsns) == list(range(1, 201))


def test_nothing_starts_before_the_await(offline: MakeWrapper) -> None:
    wrapper = offline()
    wrapper.send_batch(make_batch()).close()
    assert wrapper.status()["frames"]["stored"] == 0


def test_a_cancelled_wait_ends_at_once_and_leaves_nothing_behind(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()

    async def main() -> None:
        result = await wrapper.send_batch(make_batch())
        waits = [asyncio.create_task(wrapper.wait_delivered(result)) for _ in range(20)]
        await asyncio.sleep(0)
        for wait in waits:
            wait.cancel()
        assert all(
            isinstance(e, asyncio.CancelledError)
            for e in await asyncio.gather(*waits, return_exceptions=True)
        )
        bridge = _bridge.running_bridge()
        async with asyncio.timeout(DEADLINE_SECS):
            while bridge._waiting:
                await asyncio.sleep(0.01)
        assert (await wrapper.send_batch(make_batch())).success

    run(main())


def test_a_cancelled_send_is_stored_whole_or_not_at_all(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()

    async def main() -> int:
        sends = [asyncio.create_task(wrapper.send_batch(make_batch())) for _ in range(100)]
        await asyncio.sleep(0)
        for send in sends[::2]:
            send.cancel()
        results = await asyncio.gather(*sends, return_exceptions=True)
        kept = [r for r in results[1::2] if not isinstance(r, BaseException)]
        assert len(kept) == 50
        return len({r.lsn for r in kept})

    assert run(main()) == 50
    status = wrapper.status()
    assert 50 <= status["frames"]["waiting"] <= 100
    assert status["rows"]["waiting"] == 3 * status["frames"]["waiting"]


def test_more_sends_than_one_turn_takes_come_back_each_with_its_own_result(
    offline: MakeWrapper, run: Run
) -> None:
    wrapper = offline()

    async def one(rows: int) -> tuple[int, int]:
        result = await wrapper.send_batch(make_batch(rows=rows))
        return rows, result.batch_size_bytes

    async def main() -> list[tuple[int, int]]:
        return await asyncio.gather(*(one(1 + 100 * (number % 7)) for number in range(3000)))

    sizes: dict[int, set[int]] = {}
    for rows, size in run(main()):
        sizes.setdefault(rows, set()).add(size)
    assert all(len(of_rows) == 1 for of_rows in sizes.values())
    assert len({size for of_rows in sizes.values() for size in of_rows}) == 7


def test_sends_of_one_turn_go_each_through_its_own_wrapper(offline: MakeWrapper, run: Run) -> None:
    wrappers = [offline() for _ in range(3)]

    async def main() -> list[TransmissionResult | BaseException]:
        await wrappers[2].shutdown()
        # In turns, and more of each than what does not wait for the end of the turn.
        sends = [
            wrapper.send_batch(make_batch(rows=rows))
            for _ in range(300)
            for rows, wrapper in enumerate(wrappers, start=1)
        ]
        return await asyncio.gather(*sends, return_exceptions=True)

    results = run(main())
    for rows, wrapper in enumerate(wrappers[:2], start=1):
        assert sorted(result.lsn for result in results[rows - 1 :: 3]) == list(range(1, 301))
        assert wrapper.status()["rows"]["stored"] == 300 * rows
    assert all(isinstance(error, ClosedError) for error in results[2::3])


def test_a_send_that_its_loop_never_begins_is_not_stored(offline: MakeWrapper) -> None:
    wrapper = offline()
    loop = asyncio.new_event_loop()
    send = wrapper.send_batch(make_batch())

    def begin() -> None:
        # As far as a task gets before its loop turns; then the loop is gone.
        send.send(None)
        loop.stop()

    loop.call_soon(begin)
    loop.run_forever()
    loop.close()
    send.close()
    asyncio.run(wrapper.send_batch(make_batch()))
    assert wrapper.status()["frames"]["stored"] == 1


def test_a_closed_loop_takes_its_sockets_with_it(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()

    async def abandon() -> None:
        result = await wrapper.send_batch(make_batch())
        # Held by nobody: the loop is closed with the wait under way.
        asyncio.get_running_loop().create_task(wrapper.wait_delivered(result)).cancel()

    run(abandon())
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        run(abandon())
    gc.collect()
    # Each loop has two sockets of ours; a leak would be a hundred.
    assert len(os.listdir("/dev/fd")) <= before + 10


def test_a_loop_that_is_closed_with_work_under_way_does_no_harm(offline: MakeWrapper) -> None:
    wrapper = offline()
    loop = asyncio.new_event_loop()

    async def begin() -> asyncio.Task[Any]:
        result = await wrapper.send_batch(make_batch())
        task = asyncio.ensure_future(wrapper.wait_delivered(result, timeout=0.2))
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(begin())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    for lsn in (2, 3):
        assert asyncio.run(wrapper.send_batch(make_batch())).lsn == lsn
    with pytest.raises(TimeoutError):
        asyncio.run(wrapper.wait_delivered(1, timeout=0.3))


def test_the_buffers_of_a_batch_are_freed_on_the_thread_of_the_loop(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()
    freed_on: list[int] = []

    class Memory(bytearray):
        """Weakly referable memory."""

    def owned_batch() -> pa.RecordBatch:
        memory = Memory(8 * 100)
        weakref.finalize(memory, lambda: freed_on.append(threading.get_ident()))
        array = pa.Array.from_buffers(pa.int64(), 100, [None, pa.py_buffer(memory)])
        return pa.record_batch({"id": array})

    async def main() -> None:
        for _ in range(20):
            await wrapper.send_batch(owned_batch())
        for _ in range(20):
            send = asyncio.create_task(wrapper.send_batch(owned_batch()))
            await asyncio.sleep(0)
            send.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await send
        async with asyncio.timeout(DEADLINE_SECS):
            while len(freed_on) < 40:
                await asyncio.sleep(0.01)

    run(main())
    assert freed_on == [threading.get_ident()] * 40


def resident_bytes_max() -> int:
    """The most that the process has had in memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def test_ten_thousand_sends_leave_nothing_behind(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline(durability="os")
    freed = 0

    class Memory(bytearray):
        """Weakly referable memory."""

    def count() -> None:
        nonlocal freed
        freed += 1

    def batch() -> pa.RecordBatch:
        memory = Memory(8 * 1000)
        weakref.finalize(memory, count)
        return pa.record_batch({"id": pa.Array.from_buffers(pa.int64(), 1000, [None, pa.py_buffer(memory)])})

    async def send(times: int) -> None:
        for _ in range(times // 50):
            # Single ones, streams, cancelled ones and refused ones, as a program may have them.
            await asyncio.gather(*(wrapper.send_batch(batch()) for _ in range(40)))
            await wrapper.send_batch(pa.Table.from_batches([batch() for _ in range(5)]))
            cancelled = [asyncio.create_task(wrapper.send_batch(batch())) for _ in range(3)]
            refused = [wrapper.send_batch(pa.array([number])) for number in range(2)]
            await asyncio.sleep(0)
            for task in cancelled:
                task.cancel()
            await asyncio.gather(*cancelled, *refused, return_exceptions=True)

    def measured() -> tuple[int, int, int]:
        gc.collect()
        return len(gc.get_objects()), len(os.listdir("/dev/fd")), resident_bytes_max()

    async def main() -> None:
        # Caches fill and the log gets its first segments.
        await send(1000)
        objects, descriptors, bytes_before = measured()
        await send(10_000)
        objects_after, descriptors_after, bytes_after = measured()
        # One object, one descriptor or one page for each send would be ten thousand.
        assert objects_after - objects < 1000
        assert descriptors_after - descriptors < 100
        assert bytes_after - bytes_before < 40 * 2**20
        async with asyncio.timeout(DEADLINE_SECS):
            while freed < 11_000 * 48 // 50:
                await asyncio.sleep(0.01)

    run(main())


def test_other_threads_run_while_a_shutdown_blocks(offline: MakeWrapper) -> None:
    wrapper = offline(shutdown_timeout_secs=1)
    asyncio.run(wrapper.send_batch(make_batch()))
    ticks = 0
    stop = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not stop.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    until(lambda: ticks > 0, "the thread runs")
    before = ticks
    with wrapper:
        pass
    stop.set()
    thread.join()
    assert ticks > before + 50


def test_an_error_of_the_body_is_not_hidden_by_the_shutdown(
    offline: MakeWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = offline()

    async def failing_shutdown(self: ZerobusWrapper) -> None:
        raise StorageError("disk gone")

    monkeypatch.setattr(ZerobusWrapper, "shutdown", failing_shutdown)

    async def main() -> None:
        async with wrapper:
            raise KeyError("body")

    with pytest.raises(KeyError, match="body") as caught:
        asyncio.run(main())
    assert caught.value.__notes__ == ["and the shutdown failed: disk gone"]

    async def clean() -> None:
        async with wrapper:
            pass

    with pytest.raises(StorageError, match="disk gone"):
        asyncio.run(clean())
