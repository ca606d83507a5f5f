"""A stream of batches: what is told of it, in its middle too, and what it holds in memory.

Goal: a stream of any length is stored batch by batch, and whatever ends it, the caller learns which frames
are stored. Method: readers over generators that watch what is asked of them, and C streams made by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import (
    ArgumentTypeError,
    BatchTooLargeError,
    BufferFullError,
    ClosedError,
    ConversionError,
    FlushTimeoutError,
    SourceError,
    TransmissionResult,
    ZerobusError,
    ZerobusWrapper,
    _stream,
)
from arrow_zerobus_sdk_wrapper._frames import Together
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import DEADLINE_SECS, MakeWrapper, make_batch, until
from test_end_to_end import landed

SCHEMA = make_batch().schema
Run = Callable[..., Any]


def reader(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
    """A stream over a generator, which is run when a batch is asked for."""
    return pa.RecordBatchReader.from_batches(SCHEMA, batches)


def numbered(count: int, rows: int = 3) -> Iterator[pa.RecordBatch]:
    """Batches with ascending ids."""
    for number in range(count):
        yield make_batch(number * rows, rows)


def breaking(count: int) -> Iterator[pa.RecordBatch]:
    """So many batches, and then an error."""
    yield from numbered(count)
    raise KeyError("the source is gone")


def numbers(result: TransmissionResult) -> list[int]:
    return [lsn for run in result.lsns for lsn in run]


def test_the_batches_of_a_stream_land_in_its_order(emulator: Emulator, online: MakeWrapper) -> None:
    async def main() -> None:
        async with online() as wrapper:
            result = await wrapper.send_batch(reader(numbered(20)))
            assert (result.lsns, result.lsn, result.state) == ((range(1, 21),), 20, "stored")
            assert (result.success, result.durable, result.attempts) == (True, True, 0)
            one = await wrapper.send_batch(make_batch())
            assert result.batch_size_bytes == 20 * one.batch_size_bytes
            assert result.latency_ms is not None
            delivered = await wrapper.wait_delivered(result, timeout=60)
            assert (delivered.state, delivered.lsns) == ("delivered", result.lsns)
            assert wrapper.status()["settled_lsn"] >= 20

    asyncio.run(main())
    rows = landed(emulator)
    assert [row["id"] for row in rows if row["id"] >= 3] == list(range(3, 60))


def test_a_stream_of_a_wrapper_that_waits_for_delivery_is_delivered(
    emulator: Emulator, online: MakeWrapper
) -> None:
    async def main() -> None:
        async with online(wait_for="delivered") as wrapper:
            result = await wrapper.send_batch(reader(numbered(3)))
            assert (result.state, result.lsns) == ("delivered", (range(1, 4),))
            assert result.attempts >= 1
            assert landed(emulator) == make_batch(0, 9).to_pylist()

    asyncio.run(main())


def test_waiting_for_a_stream_is_waiting_for_all_of_its_frames(offline: MakeWrapper) -> None:
    wrapper = offline()

    async def main() -> None:
        result = await wrapper.send_batch(reader(numbered(3)))
        with pytest.raises(FlushTimeoutError) as caught:
            await wrapper.wait_delivered(result, timeout=0.1)
        assert caught.value.lsn == 1

    asyncio.run(main())


def test_the_timeout_of_a_wait_is_one_for_all_frames(emulator: Emulator, online: MakeWrapper) -> None:
    async def main() -> None:
        async with online(retry_max_attempts=2**32 - 1) as wrapper:
            first = await wrapper.send_batch(make_batch())
            await wrapper.wait_delivered(first, timeout=60)
            emulator.kill()
            rest = await wrapper.send_batch(reader(numbered(50)))
            both = TransmissionResult(True, None, 0, 0, 0, "stored", rest.lsn, True, first.lsns + rest.lsns)
            started = asyncio.get_running_loop().time()
            with pytest.raises(FlushTimeoutError) as caught:
                await wrapper.wait_delivered(both, timeout=0.5)
            assert caught.value.lsn == 2
            assert asyncio.get_running_loop().time() - started < DEADLINE_SECS
            emulator.restart()
            assert numbers(await wrapper.wait_delivered(both, timeout=60)) == list(range(1, 52))

    asyncio.run(main())


def test_the_numbers_of_streams_that_are_sent_at_once_are_told_truly(
    emulator: Emulator, online: MakeWrapper
) -> None:
    def own(source: int) -> Iterator[pa.RecordBatch]:
        for number in range(30):
            yield make_batch(source * 1000 + number, 1)

    async def main() -> None:
        async with online() as wrapper:
            results = await asyncio.gather(*(wrapper.send_batch(reader(own(source))) for source in range(5)))
            told = [numbers(result) for result in results]
            assert all(
                len(one) == 30 and one == sorted(one) and one[-1] == r.lsn
                for one, r in zip(told, results, strict=True)
            )
            assert sorted(lsn for one in told for lsn in one) == list(range(1, 151))
            await wrapper.flush(timeout=60)

    asyncio.run(main())
    ids = [row["id"] for row in landed(emulator)]
    assert ids == [source * 1000 + number for source in range(5) for number in range(30)]


def test_one_batch_of_a_stream_is_in_memory_at_a_time(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()
    alive, most = 0, 0

    class Memory(bytearray):
        """Weakly referable memory."""

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal alive, most
        for _ in range(200):
            memory = Memory(8 * 1000)
            weakref.finalize(memory, freed)
            alive += 1
            most = max(most, alive)
            ids = pa.Array.from_buffers(pa.int64(), 1000, [None, pa.py_buffer(memory)])
            del memory
            yield pa.record_batch({"id": ids, "name": pa.nulls(1000, pa.string())})
            del ids

    result = run(wrapper.send_batch(reader(batches())))
    assert numbers(result) == list(range(1, 201))
    # The one that is made, the one before it, which the generator still has in its hands, and no more.
    assert most <= 3
    gc.collect()
    assert alive == 0


def test_a_stream_without_rows_is_a_success_that_stores_nothing(offline: MakeWrapper) -> None:
    wrapper = offline()

    async def main() -> None:
        for empty in (pa.table(make_batch().slice(0, 0)), reader(iter(())), reader(numbered(3, rows=0))):
            result = await wrapper.send_batch(empty)
            assert (result.success, result.state, result.lsn, result.lsns) == (True, "empty", None, ())
            assert await wrapper.wait_delivered(result) is result

    asyncio.run(main())
    assert wrapper.status()["frames"]["stored"] == 0


def test_batches_without_rows_are_left_out_of_a_stream(offline: MakeWrapper) -> None:
    batches = [make_batch(rows=rows) for rows in (0, 3, 0, 2, 0)]
    result = asyncio.run(offline().send_batch(reader(iter(batches))))
    assert (result.state, result.lsns) == ("stored", (range(1, 3),))


def test_a_source_that_fails_is_an_error_that_says_what_is_stored(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()
    with pytest.raises(SourceError, match="the source is gone") as caught:
        run(wrapper.send_batch(reader(breaking(3))))
    error = caught.value
    assert "batch 4 of the stream of pyarrow.lib.RecordBatchReader" in str(error)
    assert "3 batches are stored under LSN 1 to 3 and must not be sent again" in str(error)
    assert (error.code, error.retryable, error.lsn) == ("source", False, None)
    assert error.stored_lsns == (range(1, 4),)
    assert pickle.loads(pickle.dumps(error)).stored_lsns == error.stored_lsns
    assert wrapper.status()["frames"]["stored"] == 3


def test_a_source_that_fails_at_once_has_stored_nothing(offline: MakeWrapper) -> None:
    with pytest.raises(SourceError, match=r"batch 1 .* of which nothing is stored") as caught:
        asyncio.run(offline().send_batch(reader(breaking(0))))
    assert caught.value.stored_lsns == ()


def test_a_batch_that_is_refused_ends_the_stream_and_says_what_is_stored(offline: MakeWrapper) -> None:
    asked = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal asked
        for rows in (3, 3, 200_000, 3):
            asked += 1
            yield make_batch(rows=rows)

    wrapper = offline(segment_bytes=2**20)
    with pytest.raises(BatchTooLargeError, match="batch 3 of the stream") as caught:
        asyncio.run(wrapper.send_batch(reader(batches())))
    assert caught.value.stored_lsns == (range(1, 3),)
    assert asked == 3
    assert wrapper.status()["frames"]["stored"] == 2


def test_a_schema_that_is_refused_is_refused_at_the_first_batch(offline: MakeWrapper) -> None:
    table = pa.table({"id": [1], "took": pa.array([5], pa.duration("s"))})
    with pytest.raises(ConversionError, match="took") as caught:
        asyncio.run(offline().send_batch(table))
    assert (caught.value.column, caught.value.stored_lsns) == ("took", ())


def test_a_log_that_is_full_in_the_middle_of_a_stream_says_what_is_stored(offline: MakeWrapper) -> None:
    wrapper = offline(wal_max_bytes=2**20, wal_min_free_bytes=0, on_full="reject")
    with pytest.raises(BufferFullError) as caught:
        asyncio.run(wrapper.send_batch(reader(numbered(1000, rows=1000))))
    stored = wrapper.status()["frames"]["stored"]
    assert stored > 0
    assert caught.value.stored_lsns == (range(1, stored + 1),)
    assert caught.value.retryable


def test_null_rows_in_the_middle_of_a_stream_are_a_type_error(offline: MakeWrapper) -> None:
    rows = pa.array([{"id": 1}])
    chunks = pa.chunked_array([rows, rows, pa.array([None], rows.type)])
    with pytest.raises(ArgumentTypeError, match="null") as caught:
        asyncio.run(offline().send_batch(chunks))
    assert "batch 3 of the stream of pyarrow.lib.ChunkedArray" in str(caught.value)
    assert caught.value.stored_lsns == (range(1, 3),)


def test_the_runs_in_a_message_are_few_however_many_there_are() -> None:
    error = ZerobusError("no room")
    with contextlib.suppress(ZerobusError), Together("tests") as together:
        for lsn in range(1, 2000, 2):
            together.add(TransmissionResult(True, None, 0, 0, 100, "stored", lsn, True))
        raise error
    assert "1000 batches are stored under LSN 1, 3, 5, 7, 9, … and must not be sent again" in str(error)
    assert len(error.stored_lsns) == 1000


def test_a_cancelled_stream_says_in_a_note_what_is_stored(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline(wal_max_bytes=2**20, wal_min_free_bytes=0)
    sources: list[weakref.ref[Any]] = []

    def watched() -> Iterator[pa.RecordBatch]:
        batches = numbered(1000, rows=1000)
        sources.append(weakref.ref(batches))
        return batches

    async def main() -> BaseException:
        sending = asyncio.create_task(wrapper.send_batch(reader(watched())))
        async with asyncio.timeout(DEADLINE_SECS):
            # It waits for room, which nobody makes.
            while not wrapper.status()["full"]:
                await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await sending
        return caught.value

    error = run(main())
    stored = wrapper.status()["frames"]["stored"]
    assert stored > 1
    (note,) = error.__notes__
    assert f"batch {stored + 1} of the stream" in note
    assert f"{stored} batches are stored under LSN 1 to {stored} " in note
    del error
    gc.collect()
    assert sources[0]() is None, "the stream was not released"


def test_a_stream_is_released_whatever_becomes_of_it(offline: MakeWrapper) -> None:
    wrapper = offline()
    sources: list[weakref.ref[Any]] = []

    def send(batches: Iterator[pa.RecordBatch]) -> None:
        sources.append(weakref.ref(batches))
        asyncio.run(wrapper.send_batch(reader(batches)))

    send(numbered(3))
    with pytest.raises(SourceError):
        send(breaking(1))
    asyncio.run(wrapper.shutdown())
    with pytest.raises(ClosedError, match="batch 1 of the stream"):
        send(numbered(3))
    gc.collect()
    assert [source() for source in sources] == [None] * 3


def test_nothing_is_asked_of_a_stream_before_the_await(offline: MakeWrapper) -> None:
    wrapper = offline()
    source = reader(numbered(3))
    wrapper.send_batch(source).close()
    assert len(source.read_all()) == 9
    assert wrapper.status()["frames"]["stored"] == 0


def test_a_stream_that_was_taken_before_is_a_type_error(offline: MakeWrapper) -> None:
    class Twice:
        stream = reader(numbered(2)).__arrow_c_stream__()

        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            return self.stream

    wrapper, twice = offline(), Twice()
    assert asyncio.run(wrapper.send_batch(twice)).lsn == 2
    with pytest.raises(ArgumentTypeError, match="taken before"):
        asyncio.run(wrapper.send_batch(twice))


def test_other_tasks_run_between_the_batches_of_a_stream(offline: MakeWrapper, run: Run) -> None:
    wrapper = offline()
    turns: list[int] = []

    async def main() -> None:
        async def turn() -> None:
            while True:
                turns.append(len(turns))
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        await wrapper.send_batch(reader(numbered(10)))
        turning.cancel()

    run(main())
    assert len(turns) >= 10


class HandMade:
    """A C stream of our own that fails with an error number and, if asked, a text."""

    def __init__(self, *, at_schema: bool, text: bytes | None) -> None:
        self._text = text
        stream = self._stream = _stream._ArrowArrayStream()
        self.is_released = False
        schema_capsule, _ = make_batch().__arrow_c_array__()

        def get_schema(_: int, out: int) -> int:
            if at_schema:
                return 5
            # Moved out of a real one, as a producer may.
            given = _stream._capsule_pointer(schema_capsule, b"arrow_schema")
            ctypes.memmove(out, given, ctypes.sizeof(_stream._ArrowSchema))
            _stream._ArrowSchema.from_address(given).release = _stream._Release()
            return 0

        def release(address: int) -> None:
            self.is_released = True
            _stream._ArrowArrayStream.from_address(address).release = _stream._Release()

        address = ctypes.cast(ctypes.c_char_p(text), ctypes.c_void_p).value
        self._text_getter = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: address)
        self._callbacks = (
            _stream._Get(get_schema),
            _stream._Get(lambda _, out: 12),
            # Python gives a callback no text to return, only the address of one.
            ctypes.cast(self._text_getter, _stream._GetError),
            _stream._Release(release),
        )
        stream.get_schema, stream.get_next, stream.get_last_error, stream.release = self._callbacks

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return _stream._capsule(ctypes.addressof(self._stream), b"arrow_array_stream", None)


@pytest.mark.parametrize(
    ("at_schema", "text", "told"),
    [
        (True, None, r"\(errno 5\): Input/output error"),
        (True, b"no such file", r"\(errno 5\): no such file"),
        (False, None, r"\(errno 12\): Cannot allocate memory; it was batch 1"),
        (False, b"\xff broken\n", r"\(errno 12\): \ufffd broken; it was batch 1"),
    ],
)
def test_a_stream_that_gives_only_a_number_is_an_error_with_its_meaning(
    offline: MakeWrapper, at_schema: bool, text: bytes | None, told: str
) -> None:
    given = HandMade(at_schema=at_schema, text=text)
    with pytest.raises(SourceError, match=told) as caught:
        asyncio.run(offline().send_batch(given))
    assert "test_batch_streams.HandMade" in str(caught.value)
    assert given.is_released


def test_a_stream_that_is_full_goes_on_when_there_is_room(emulator: Emulator, online: MakeWrapper) -> None:
    async def main(wrapper: ZerobusWrapper) -> TransmissionResult:
        emulator.kill()
        sending = asyncio.create_task(wrapper.send_batch(reader(numbered(60, rows=1000))))
        async with asyncio.timeout(DEADLINE_SECS):
            while not wrapper.status()["full"]:
                await asyncio.sleep(0.01)
        assert not sending.done()
        emulator.restart()
        result = await sending
        await wrapper.wait_delivered(result, timeout=60)
        return result

    with online(wal_max_bytes=2**20, wal_min_free_bytes=0, retry_max_attempts=2**32 - 1) as wrapper:
        assert numbers(asyncio.run(main(wrapper))) == list(range(1, 61))
        until(lambda: wrapper.status()["frames"]["waiting"] == 0, "everything is delivered")
    assert {row["id"] for row in landed(emulator)} == set(range(60_000))
