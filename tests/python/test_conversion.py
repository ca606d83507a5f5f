"""Arrow in, protobuf out: whatever pyarrow can make, read back by Google's ``protobuf`` value by value.

The records come from the program ``examples/encode.rs``, which has nothing between the conversion and us.
What a record must hold is worked out from ``Table.to_pylist()``.
"""

from __future__ import annotations

import datetime
import decimal
import io
import json
import math
import string
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
FEATURES = "cli,emulator,sim"
EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)

Encode = Callable[[pa.Table], tuple[list[Any], list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encodes a table and returns its records as messages, and the rows that were refused."""
    build = ["cargo", "build", "--quiet", "--locked", "--features", FEATURES, "--example", "encode"]
    subprocess.run([*build, "--message-format=short"], cwd=ROOT, check=True)
    program = ROOT / "target" / "debug" / "examples" / "encode"

    def encode(table: pa.Table) -> tuple[list[Any], list[dict[str, Any]]]:
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            for batch in table.to_batches():
                writer.write_batch(batch)
        done = subprocess.run([program], input=stream.getvalue(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        descriptor, *records = delimited(done.stdout)
        message = message_class(descriptor)
        refused = [json.loads(line) for line in done.stderr.splitlines()]
        return [message.FromString(record) for record in records], refused

    return encode


def delimited(data: bytes) -> Iterator[bytes]:
    """The messages in a stream of them, each of which has its length in front."""
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield data[at : at + length]
        at += length


def message_class(data: bytes) -> Any:
    """The class of the messages that a descriptor describes.

    This library refuses two things in the descriptors of the official client that change no record: a mark on
    fields of proto2 that are optional anyway, and messages that are called like their column.
    """
    descriptor = descriptor_pb2.DescriptorProto.FromString(data)

    def adapt(message: Any) -> None:
        for field in message.field:
            field.ClearField("proto3_optional")
            if field.type_name:
                field.type_name += "Message"
        for nested in message.nested_type:
            nested.name += "Message"
            adapt(nested)

    adapt(descriptor)
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", message_type=[descriptor])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(descriptor.name))


def has_value(message: Any, name: str) -> bool:
    """Whether a field has one; lists and maps always have."""
    return bool(message.DESCRIPTOR.fields_by_name[name].is_repeated or message.HasField(name))


def check_message(message: Any, row: dict[str, Any], fields: Any) -> None:
    """A message has exactly the values of a row."""
    assert {field.name for field, _ in message.ListFields()} <= set(row)
    for field in fields:
        if has_value(message, field.name):
            check(getattr(message, field.name), row[field.name], field.type)
        else:
            assert row[field.name] is None, field.name


def check(found: Any, wanted: Any, kind: pa.DataType) -> None:
    """A value of a message is that of the column."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        check(found, wanted, kind.value_type)
    elif pa.types.is_struct(kind):
        check_message(found, wanted, kind)
    elif pa.types.is_map(kind):
        entries = {wire(key, kind.key_type): value for key, value in wanted or []}
        assert set(found) == set(entries)
        for key, value in entries.items():
            check(found[key], value, kind.item_type)
    elif isinstance(wanted, list) or any(is_list(kind) for is_list in LISTS):
        assert len(found) == len(wanted or [])
        for element, wanted_element in zip(found, wanted or [], strict=True):
            check(element, wanted_element, kind.value_type)
    elif isinstance(wanted, float) and math.isnan(wanted):
        assert math.isnan(found)
    else:
        assert found == wire(wanted, kind)
        if isinstance(wanted, float):
            assert math.copysign(1, found) == math.copysign(1, wanted)


LISTS = [
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
]


def wire(value: Any, kind: pa.DataType) -> Any:
    """A value without parts, as the service's protobuf has it."""
    match value:
        case datetime.datetime():
            if pa.types.is_date64(kind):
                return (value - EPOCH).days
            return (
                value.replace(tzinfo=None) - (value.utcoffset() or datetime.timedelta()) - EPOCH
            ) // MICROSECOND
        case datetime.date():
            return (value - EPOCH.date()).days
        case decimal.Decimal():
            return f"{value:f}"
        case uuid.UUID():
            return str(value)
        case int() if pa.types.is_uint64(kind):
            return str(value)
        case _:
            return value


def integers(bits: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high)


def texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), max_size=20)


def times(unit: str) -> st.SearchStrategy[datetime.datetime]:
    """What the unit can hold exactly; nanoseconds end in the year 2262."""
    times = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 6}[unit]
    return times.map(
        lambda time: time.replace(microsecond=time.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
    )


def decimals(digits: int, scale: int) -> st.SearchStrategy[decimal.Decimal]:
    limit = 10**digits - 1
    context = decimal.Context(prec=80)
    return st.integers(-limit, limit).map(lambda number: decimal.Decimal(number).scaleb(-scale, context))


# Types without parts, and their values.
SCALARS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    (pa.int8(), integers(8)),
    (pa.int16(), integers(16)),
    (pa.int32(), integers(32)),
    (pa.int64(), integers(64)),
    (pa.uint8(), integers(8, signed=False)),
    (pa.uint16(), integers(16, signed=False)),
    (pa.uint32(), integers(32, signed=False)),
    (pa.uint64(), integers(64, signed=False)),
    (pa.float16(), st.floats(width=16)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.string(), texts()),
    (pa.large_string(), texts()),
    (pa.string_view(), texts()),
    (pa.binary(), st.binary(max_size=20)),
    (pa.large_binary(), st.binary(max_size=20)),
    (pa.binary_view(), st.binary(max_size=20)),
    (pa.binary(5), st.binary(min_size=5, max_size=5)),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    *[(pa.timestamp(unit), times(unit)) for unit in ("s", "ms", "us", "ns")],
    *[(pa.timestamp(unit, "Europe/Berlin"), times(unit)) for unit in ("s", "ms", "us", "ns")],
    (pa.decimal32(9, 2), decimals(9, 2)),
    (pa.decimal64(18, 18), decimals(18, 18)),
    (pa.decimal128(38, 10), decimals(38, 10)),
    (pa.decimal256(38, 0), decimals(38, 0)),
]
KEYS = [pair for pair in SCALARS if not pa.types.is_floating(pair[0]) and "binary" not in str(pair[0])]

Typed = tuple[pa.DataType, st.SearchStrategy[Any]]


def structs(parts: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def struct(parts: list[Typed]) -> Typed:
        names = [f"{letter}{letter}" for letter in string.ascii_lowercase[: len(parts)]]
        fields = [pa.field(name, kind) for name, (kind, _) in zip(names, parts, strict=True)]
        values = {name: st.none() | part for name, (_, part) in zip(names, parts, strict=True)}
        return pa.struct(fields), st.fixed_dictionaries(values)

    return st.lists(parts, min_size=1, max_size=3).map(struct)


def lists(parts: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    kinds = st.sampled_from(
        [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 2)]
    )

    def of(kind: Any, part: Typed) -> Typed:
        made = kind(part[0])
        size = made.list_size if pa.types.is_fixed_size_list(made) else None
        return made, st.lists(part[1], min_size=size or 0, max_size=size or 3)

    return st.builds(of, kinds, parts)


def maps(parts: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def of(key: Typed, value: Typed) -> Typed:
        return pa.map_(key[0], value[0]), st.dictionaries(key[1], value[1], max_size=3).map(
            lambda d: list(d.items())
        )

    return st.builds(of, st.sampled_from(KEYS), parts)


# No list or map directly in another one: protobuf has none.
FLAT = st.recursive(st.sampled_from(SCALARS), structs, max_leaves=4)
ANY = st.recursive(FLAT, lambda parts: structs(parts | lists(FLAT) | maps(FLAT)), max_leaves=4)
TYPES = ANY | lists(ANY) | maps(ANY)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Some columns of some types, as slices of several batches."""
    rows = draw(st.integers(0, 12))
    first = draw(st.integers(0, rows))
    columns = {}
    for name in [f"Column_{n}" for n in range(draw(st.integers(1, 4)))]:
        kind, values = draw(TYPES)
        match draw(st.sampled_from(["plain", "dictionary", "runs"])):
            case "dictionary" if not pa.types.is_float16(kind):
                pool = pa.array(draw(st.lists(st.none() | values, min_size=1, max_size=4)), kind)
                keys = st.none() | st.integers(0, len(pool) - 1)
                keys = pa.array(draw(st.lists(keys, min_size=rows, max_size=rows)), pa.int16())
                column = pa.DictionaryArray.from_arrays(keys, pool)
            case "runs" if rows > 0:
                ends = sorted(draw(st.sets(st.integers(1, rows), max_size=4)) | {rows})
                runs = pa.array(
                    draw(st.lists(st.none() | values, min_size=len(ends), max_size=len(ends))), kind
                )
                column = pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), runs)
            case _:
                column = pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
        columns[name] = column
    batch = pa.record_batch(columns)
    return pa.Table.from_batches([batch.slice(first), batch.slice(0, first)])


def check_table(encode: Encode, table: pa.Table) -> None:
    """Every row of a table arrives."""
    messages, refused = encode(table)
    assert refused == []
    rows = table.to_pylist()
    assert len(messages) == len(rows)
    for message, row in zip(messages, rows, strict=True):
        check_message(message, row, table.schema)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=tables())
def test_whatever_pyarrow_makes_is_read_back_value_by_value(encode: Encode, table: pa.Table) -> None:
    check_table(encode, table)


def test_extension_types_are_what_they_mean(encode: Encode) -> None:
    ids = [uuid.UUID(int=n) for n in (0, 1, 2**128 - 1)]
    table = pa.table(
        {
            "id": pa.array([one.bytes for one in ids], pa.binary(16)).cast(pa.uuid()),
            "flag": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, -1], pa.int8())),
            "text": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1", "{}", None])),
        }
    )
    check_table(encode, table)


def test_a_row_that_cannot_be_sent_is_named_and_the_others_are_read_back(encode: Encode) -> None:
    table = pa.table({"id": [1, 2, 3], "parts": pa.array([[1], [None], []], pa.list_(pa.int64()))})
    messages, refused = encode(table)
    assert [message.id for message in messages] == [1, 3]
    assert [(row["row"], row["column"]) for row in refused] == [(1, "parts.element")]


def frame() -> dict[str, list[Any]]:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    return {
        "id": [1, 2, 3],
        "name": ["a", None, "ü"],
        "value": [0.5, -0.0, None],
        "when": [when, None, when],
        "flag": [True, False, True],
    }


def test_a_pandas_frame_is_read_back(encode: Encode) -> None:
    pandas = pd.DataFrame(frame())
    pandas["kind"] = pd.Categorical(["x", "y", "x"])
    check_table(encode, pa.Table.from_pandas(pandas, preserve_index=False))


def test_a_polars_frame_is_read_back(encode: Encode) -> None:
    polars = pl.DataFrame(frame() | {"parts": [[1, 2], [], [3]], "pair": [{"x": 1}, {"x": None}, {"x": 3}]})
    polars = polars.with_columns(kind=pl.Series(["x", "y", "x"], dtype=pl.Categorical))
    check_table(encode, pa.table(polars))
