"""Which libraries' batches go in, and that what lands is what they held.

Goal: whatever exports Arrow data is stored without a library of ours in between. Method: each library's own
objects, through a wrapper and an emulator, read back from the Delta table by ``deltalake``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import arro3.core
import duckdb
import nanoarrow
import pandas
import polars
import pyarrow as pa
import pytest

from arrow_zerobus_sdk_wrapper import ArgumentTypeError, ZerobusWrapper
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import MakeWrapper
from test_end_to_end import landed

COLUMNS = "id BIGINT, name STRING, raw BINARY"
NAMES = ["one", None, "a text that is too long to be kept within a view", ""]
# In three pieces, the second of them empty, so that a stream of it has three batches.
WHOLE = pa.table(
    {
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "name": pa.array(NAMES, pa.string()),
        "raw": pa.array(
            [b"\x00", None, b"bytes that are too long to be kept within a view", b""], pa.binary()
        ),
    }
)
PIECES = pa.concat_tables([WHOLE.slice(0, 2), WHOLE.slice(2, 0), WHOLE.slice(2)])
BATCH = WHOLE.combine_chunks().to_batches()[0]


def cast(name: pa.DataType, raw: pa.DataType) -> pa.Table:
    """The same values in other types."""
    return PIECES.cast(pa.schema([("id", pa.int64()), ("name", name), ("raw", raw)]))


def pandas_categorical() -> pandas.DataFrame:
    frame = WHOLE.to_pandas()
    frame["name"] = frame["name"].astype("category")
    return frame


INPUTS: dict[str, Callable[[], Any]] = {
    "pyarrow_batch": lambda: BATCH,
    "pyarrow_slice": lambda: pa.concat_tables([WHOLE, WHOLE]).combine_chunks().to_batches()[0].slice(4),
    "pyarrow_struct_array": lambda: BATCH.to_struct_array(),
    "pyarrow_table": lambda: PIECES,
    "pyarrow_reader": lambda: PIECES.to_reader(),
    "pyarrow_generator": lambda: pa.RecordBatchReader.from_batches(
        PIECES.schema, (batch for batch in PIECES.to_batches())
    ),
    "pyarrow_large": lambda: cast(pa.large_string(), pa.large_binary()),
    "pyarrow_views": lambda: cast(pa.string_view(), pa.binary_view()),
    "pyarrow_dictionary": lambda: PIECES.set_column(1, "name", PIECES["name"].dictionary_encode()),
    "polars": lambda: polars.DataFrame(PIECES),
    "polars_chunks": lambda: polars.concat(
        [polars.DataFrame(WHOLE.slice(0, 2)), polars.DataFrame(WHOLE.slice(2))], rechunk=False
    ),
    "polars_categorical": lambda: polars.DataFrame(WHOLE).cast({"name": polars.Categorical}),
    "polars_struct_series": lambda: polars.DataFrame(WHOLE).to_struct("rows"),
    "pandas": lambda: WHOLE.to_pandas(),
    "pandas_categorical": pandas_categorical,
    "pandas_arrow_types": lambda: WHOLE.to_pandas(types_mapper=pandas.ArrowDtype),
    "duckdb_relation": lambda: duckdb.connect().from_arrow(WHOLE),
    "duckdb_query": lambda: duckdb.connect().from_arrow(WHOLE).query("it", "SELECT * FROM it ORDER BY id"),
    # Its threads ask for the GIL while the batch is waited for.
    "duckdb_over_python": lambda: duckdb.connect().from_arrow(
        pa.RecordBatchReader.from_batches(PIECES.schema, (batch for batch in PIECES.to_batches()))
    ),
    "duckdb_reader": lambda: duckdb.connect().from_arrow(WHOLE).to_arrow_reader(),
    "arro3_batch": lambda: arro3.core.RecordBatch.from_arrow(BATCH),
    "arro3_table": lambda: arro3.core.Table.from_arrow(PIECES),
    "arro3_reader": lambda: arro3.core.RecordBatchReader.from_arrow(PIECES),
    "nanoarrow_c_array": lambda: nanoarrow.c_array(BATCH),
    "nanoarrow_array": lambda: nanoarrow.Array(BATCH),
    "nanoarrow_chunks": lambda: nanoarrow.Array(PIECES),
    "nanoarrow_stream": lambda: nanoarrow.ArrayStream(PIECES),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A local Zerobus with a table for each kind of input."""
    tables = {f"main.default.{name}": COLUMNS for name in INPUTS}
    with Emulator(data_dir=tmp_path_factory.mktemp("tables"), tables=tables) as running:
        yield running


@pytest.mark.parametrize("name", INPUTS)
def test_what_a_library_exports_lands_with_its_values(service: Emulator, tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with ZerobusWrapper(
            service.endpoint,
            f"main.default.{name}",
            client_id="id",
            client_secret="s3cret",
            unity_catalog_url=service.unity_catalog_url,
            wal_dir=tmp_path,
        ) as wrapper:
            result = await wrapper.send_batch(INPUTS[name]())
            assert (result.success, result.state, result.durable) == (True, "stored", True)
            frames = wrapper.status()["frames"]["stored"]
            assert result.lsns == (range(1, frames + 1),)
            assert result.lsn == frames
            delivered = await wrapper.wait_delivered(result, timeout=60)
            assert (delivered.state, delivered.lsns) == ("delivered", result.lsns)

    asyncio.run(main())
    assert landed(service, f"main.default.{name}") == WHOLE.to_pylist()


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_text_without_values_is_valid_wherever_its_exporter_cut_it(offline: MakeWrapper, text: Any) -> None:
    none = pa.array(["one", "two", "three"]).cast(text).slice(2, 0)
    columns = {
        "inside_a_list": pa.ListArray.from_arrays(pa.array([0, 0, 0], pa.int32()), none),
        "in_lists_of_structs": pa.ListArray.from_arrays(
            pa.array([0, 0, 0], pa.int32()), pa.StructArray.from_arrays([none], ["it"])
        ),
        "as_a_dictionary": pa.DictionaryArray.from_arrays(pa.array([None, None], pa.int8()), none),
    }
    wrapper = offline()
    for name, column in columns.items():
        assert asyncio.run(wrapper.send_batch(pa.record_batch({name: column}))).state == "stored"
    assert asyncio.run(wrapper.send_batch(pa.record_batch({"alone": none}))).state == "empty"


def test_an_array_is_taken_before_a_stream(offline: MakeWrapper) -> None:
    class Both:
        def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
            return BATCH.__arrow_c_array__()

        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            raise AssertionError("the stream was asked for")

    assert asyncio.run(offline().send_batch(Both())).lsn == 1


def test_an_exporter_that_raises_is_heard(offline: MakeWrapper) -> None:
    class Array:
        def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
            raise KeyError("my own bug")

    class Stream:
        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            raise KeyError("my own bug")

    wrapper = offline()
    for given in (Array(), Stream()):
        with pytest.raises(KeyError, match="my own bug"):
            asyncio.run(wrapper.send_batch(given))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (polars.Series([1]), r"polars\.series\.series\.Series, a stream of arrays of the format 'l'"),
        (pa.chunked_array([[1]]), r"pyarrow\.lib\.ChunkedArray, a stream of arrays of the format 'l'"),
        (polars.LazyFrame({"id": [1]}), r"polars\.lazyframe\.frame\.LazyFrame$"),
        (pa.Table, "type$"),
    ],
)
def test_what_is_no_stream_of_batches_is_a_type_error_that_names_it(
    offline: MakeWrapper, given: Any, named: str
) -> None:
    wrapper = offline()
    with pytest.raises(ArgumentTypeError, match=f"expected a pyarrow.RecordBatch .*, got {named}") as caught:
        asyncio.run(wrapper.send_batch(given))
    assert isinstance(caught.value, TypeError)
    assert caught.value.code == "argument_type"
    assert wrapper.status()["frames"]["stored"] == 0


class Wrong:
    """Exports what is not what the protocol says."""

    def __init__(self, exported: Any) -> None:
        self._exported = exported


class WrongArray(Wrong):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
        return self._exported


class WrongStream(Wrong):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        return self._exported


@pytest.mark.parametrize(
    "given",
    [
        WrongArray(5),
        WrongArray(list(BATCH.__arrow_c_array__())),
        WrongArray(tuple(reversed(BATCH.__arrow_c_array__()))),
        WrongArray((*BATCH.__arrow_c_array__(), None)),
        WrongStream(5),
        WrongStream(BATCH.__arrow_c_array__()),
        WrongStream(BATCH.__arrow_c_array__()[0]),
    ],
    ids=["number", "list", "reversed", "three", "number for a stream", "arrays for a stream", "a schema"],
)
def test_an_export_that_is_not_what_it_should_be_is_a_type_error(offline: MakeWrapper, given: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="returns something else than"):
        asyncio.run(offline().send_batch(given))


@pytest.mark.parametrize("as_stream", [False, True], ids=["batch", "stream"])
def test_a_buffer_that_changes_after_the_call_changes_nothing(
    emulator: Emulator, online: MakeWrapper, as_stream: bool
) -> None:
    memory = bytearray(8 * 3)

    def batch(first: int) -> pa.RecordBatch:
        memory[:] = b"".join((first + row).to_bytes(8, "little") for row in range(3))
        ids = pa.Array.from_buffers(pa.int64(), 3, [None, pa.py_buffer(memory)])
        return pa.record_batch({"id": ids, "name": pa.nulls(3, pa.string())})

    def batches() -> Iterator[pa.RecordBatch]:
        # One buffer for all of them: the one before is stored when the next is made.
        for first in (1, 4, 7):
            yield batch(first)

    async def main() -> None:
        async with online() as wrapper:
            emulator.kill()
            if as_stream:
                schema = pa.schema([("id", pa.int64()), ("name", pa.string())])
                await wrapper.send_batch(pa.RecordBatchReader.from_batches(schema, batches()))
            else:
                for first in (1, 4, 7):
                    await wrapper.send_batch(batch(first))
            memory[:] = b"\xff" * len(memory)
            emulator.restart()
            await wrapper.wait_delivered(3, timeout=60)

    asyncio.run(main())
    assert [row["id"] for row in landed(emulator)] == list(range(1, 10))


def test_pyarrow_is_not_needed(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
sys.modules["pyarrow"] = None
import arro3.core
from arrow_zerobus_sdk_wrapper import ZerobusWrapper

async def main():
    async with ZerobusWrapper(
        "http://127.0.0.1:9", "a.b.c", wal_dir={str(tmp_path)!r}, shutdown_timeout_secs=0
    ) as wrapper:
        ids = arro3.core.Array([1, 2, 3], arro3.core.DataType.int64())
        batch = arro3.core.RecordBatch.from_arrays([ids], names=["id"])
        table = arro3.core.Table.from_batches([batch, batch])
        print((await wrapper.send_batch(batch)).lsns, (await wrapper.send_batch(table)).lsns)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "(range(1, 2),) (range(2, 4),)\n"), done.stderr
