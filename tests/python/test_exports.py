"""What goes to the core of batches of pyarrow that have the schema of the one before, or nearly.

Goal: that only the array of such a batch is exported loses nothing of any schema, and frees what it should.
Method: batches through wrappers whose service cannot be reached; each frame is read back and compared.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import ArgumentTypeError, _core, admin
from conftest import MakeWrapper

LIST = pa.list_(pa.field("item", pa.int64()))
BATCH = pa.record_batch(
    {
        "id": pa.array([1, 2, 3], pa.int32()),
        "at": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
        "kind": pa.DictionaryArray.from_arrays([0, None, 1], ["a", "b"]),
        "list": pa.array([[1], None, [2, 3]], LIST),
    }
)


def changed(name: str, field: pa.Field) -> pa.Schema:
    """The schema with another field in the place of this one."""
    return BATCH.schema.set(BATCH.schema.get_field_index(name), field)


# All are equal but for one thing.
SCHEMAS = {
    "as it is": BATCH.schema,
    "another name": changed("id", pa.field("ID", pa.int32())),
    "another type": changed("id", pa.field("id", pa.int64())),
    "not nullable": changed("id", pa.field("id", pa.int32(), nullable=False)),
    "another zone": changed("at", pa.field("at", pa.timestamp("us", "Europe/Vienna"))),
    "another unit": changed("at", pa.field("at", pa.timestamp("ns", "UTC"))),
    "metadata of a field": changed("id", pa.field("id", pa.int32(), metadata={"unit": "m"})),
    "metadata": BATCH.schema.with_metadata({"source": "here"}),
    "other metadata": BATCH.schema.with_metadata({"source": "there"}),
    "items that may not be null": changed(
        "list", pa.field("list", pa.list_(pa.field("item", pa.int64(), False)))
    ),
    "items of another name": changed("list", pa.field("list", pa.list_(pa.field("element", pa.int64())))),
}


def of(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of one row with this schema."""
    columns = [
        pa.array([[7]], field.type) if field.name == "list" else column.slice(0, 1).cast(field.type)
        for column, field in zip(BATCH.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def test_each_batch_is_stored_with_the_schema_that_it_has(offline: MakeWrapper, tmp_path: Path) -> None:
    # Each stands behind itself, and behind and before the first one.
    batches = [of(schema) for one in SCHEMAS.values() for schema in (BATCH.schema, one, one)]
    wrapper = offline()

    async def send() -> list[int | None]:
        return [(await wrapper.send_batch(batch)).lsn for batch in batches]

    lsns = asyncio.run(send())
    assert lsns == list(range(1, len(batches) + 1))
    for lsn, batch in enumerate(batches, 1):
        stored = pa.record_batch(admin.inspect_frame(lsn, tmp_path / "wal").batch)
        assert stored.schema.equals(batch.schema, check_metadata=True), f"frame {lsn}"
        # Not `equals`: a dictionary keeps only what its rows use.
        assert stored.to_pylist() == batch.to_pylist(), f"frame {lsn}"


def test_rows_of_a_slice_are_its_own(offline: MakeWrapper, tmp_path: Path) -> None:
    slices = [BATCH.slice(first, 1) for first in range(BATCH.num_rows)]
    wrapper = offline()
    for batch in slices:
        asyncio.run(wrapper.send_batch(batch))
    for lsn, batch in enumerate(slices, 1):
        stored = pa.record_batch(admin.inspect_frame(lsn, tmp_path / "wal").batch)
        assert stored.to_pylist() == batch.to_pylist()


def plain(rows: int, first: int = 0) -> pa.RecordBatch:
    """A batch of columns that are plain buffers, with a null in each but one."""
    number = range(first, first + rows)
    texts = [None if row % 3 == 2 else "ä" * (row % 5) for row in number]
    return pa.record_batch(
        {
            "number": pa.array(number, pa.int16()),
            "share": pa.array([None if row % 4 == 3 else row / 7 for row in number], pa.float32()),
            "at": pa.array([None if row % 2 else row for row in number], pa.timestamp("ns", "UTC")),
            "price": pa.array([None if row % 5 == 4 else row for row in number], pa.decimal128(38, 3)),
            "text": pa.array(texts, pa.string()),
            "bytes": pa.array([None if text is None else text.encode() for text in texts], pa.binary()),
        }
    )


def test_batches_of_plain_columns_are_stored_as_they_are(offline: MakeWrapper, tmp_path: Path) -> None:
    """These have a shorter way into the log, but for parts and large ones; one by one, and all at once."""
    batches = [plain(rows) for rows in (1, 2, 7, 8, 9, 64, 65, 256, 257, 4000)]
    batches += [plain(30, 5).slice(*part) for part in ((0, 30), (0, 8), (8, 8), (3, 1), (29, 1))]
    batches += [plain(1).set_column(4, "text", pa.array(["x" * length])) for length in (0, 20_000, 40_000)]
    wrapper = offline()

    async def send() -> list[int | None]:
        await wrapper.send_batch(batches[0])
        one_by_one = [(await wrapper.send_batch(batch)).lsn for batch in batches]
        at_once = await asyncio.gather(*(wrapper.send_batch(batch) for batch in batches))
        return one_by_one + [result.lsn for result in at_once]

    for lsn, batch in zip(asyncio.run(send()), batches * 2, strict=True):
        assert lsn is not None
        stored = pa.record_batch(admin.inspect_frame(lsn, tmp_path / "wal").batch)
        assert stored.schema.equals(batch.schema, check_metadata=True), f"frame {lsn}"
        assert stored.equals(batch), f"frame {lsn}"


def test_what_was_exported_is_freed(offline: MakeWrapper) -> None:
    wrapper = offline()

    async def send(count: int) -> None:
        for number in range(count):
            await wrapper.send_batch(pa.record_batch({"id": pa.array([number] * 1000, pa.int64())}))

    asyncio.run(send(2))
    gc.collect()
    before = pa.total_allocated_bytes()
    asyncio.run(send(200))
    gc.collect()
    assert pa.total_allocated_bytes() <= before


def test_a_core_that_does_not_know_the_schema_learns_it(offline: MakeWrapper, tmp_path: Path) -> None:
    first, second = offline(), offline(table_name="main.default.others")
    asyncio.run(first.send_batch(BATCH))
    # As if the second core had forgotten what was exported to it.
    second._exports = first._exports
    for _ in range(2):
        asyncio.run(second.send_batch(BATCH))
    stored = admin.inspect_frame(2, tmp_path / "wal" / "main.default.others").batch
    assert pa.record_batch(stored).equals(BATCH)


@pytest.mark.parametrize("is_known", [False, True], ids=["unknown", "known"])
def test_memory_that_nothing_was_exported_into_is_a_type_error(offline: MakeWrapper, is_known: bool) -> None:
    class Empty:
        def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
            return BATCH.schema.__arrow_c_schema__(), _core.ExportedArray()

    wrapper = offline()
    if is_known:
        asyncio.run(wrapper.send_batch(BATCH))
    with pytest.raises(ArgumentTypeError, match="taken before"):
        asyncio.run(wrapper.send_batch(Empty()))
