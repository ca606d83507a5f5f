"""What landed in the Delta table against the input, row by row and column by column.

The table is read with ``deltalake``, which shares no code with the writer; rows are matched by ``row_id``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable


@dataclass(frozen=True)
class Verdict:
    """What became of the rows.

    Attributes:
        sent: Rows of the input.
        landed: Rows in the table.
        lost: Rows of the input that are not in the table.
        duplicated: Rows in the table beyond the first of their id.
        foreign: Rows in the table whose id the input does not have.
        digests: For each column the digest of the input and that of the table, in the order of the ids.
        duplicates_differ: Whether two rows of one id have different values.
    """

    sent: int
    landed: int
    lost: int
    duplicated: int
    foreign: int
    digests: dict[str, tuple[str, str]]
    duplicates_differ: bool

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost and every value is equal."""
        equal = all(given == found for given, found in self.digests.values())
        return equal and not (self.lost or self.foreign or self.duplicates_differ)


def compare(given: pa.Table, path: Path) -> Verdict:
    """Compares the input with the Delta table at a path."""
    landed = DeltaTable(str(path)).to_pyarrow_table().select(given.column_names).cast(given.schema)
    landed = landed.sort_by("row_id")
    is_first = _is_first(landed["row_id"])
    distinct = landed.filter(is_first)
    given_ids, found_ids = given["row_id"], distinct["row_id"]
    all_values_distinct = landed.group_by(landed.column_names).aggregate([]).num_rows
    return Verdict(
        sent=given.num_rows,
        landed=landed.num_rows,
        lost=_count_missing(given_ids, found_ids),
        duplicated=landed.num_rows - distinct.num_rows,
        foreign=_count_missing(found_ids, given_ids),
        digests={name: (digest(given[name]), digest(distinct[name])) for name in given.column_names},
        duplicates_differ=all_values_distinct != distinct.num_rows,
    )


def _is_first(sorted_ids: pa.ChunkedArray) -> pa.Array:
    ids = pa.concat_arrays(sorted_ids.chunks) if sorted_ids.num_chunks else pa.array([], pa.int64())
    if len(ids) == 0:
        return pa.array([], pa.bool_())
    return pa.concat_arrays([pa.array([True]), pc.not_equal(ids[1:], ids[:-1])])


def _count_missing(wanted: pa.ChunkedArray, found: pa.ChunkedArray) -> int:
    is_there = pc.is_in(wanted, value_set=pa.array(found.to_pylist(), found.type))
    return int(pc.sum(pc.invert(is_there)).as_py() or 0)


def digest(column: pa.ChunkedArray) -> str:
    """SHA-256 over the nulls and the values of a column; the same for every layout of the same values."""
    values = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    sha = hashlib.sha256(_bytes(pc.is_valid(values).cast(pa.uint8())))
    if pa.types.is_string(values.type):
        filled = values.fill_null("")
        sha.update(_bytes(pc.binary_length(filled)))
        sha.update("".join(filled.to_pylist()).encode())
    else:
        sha.update(_bytes(values.fill_null(pa.scalar(0).cast(values.type))))
    return sha.hexdigest()


def _bytes(array: pa.Array) -> memoryview:
    width = array.type.bit_width // 8
    start = array.offset * width
    return (
        memoryview(array.buffers()[1])[start : start + len(array) * width] if len(array) else memoryview(b"")
    )
