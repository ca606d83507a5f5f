"""Rows are taken out of logs and sent again from Python, and other libraries read what comes out."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet
import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import (
    ArgumentTypeError,
    ConfigurationError,
    ConversionError,
    SyncZerobusWrapper,
    ZerobusError,
    admin,
)
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import TABLE, offline_settings, until

COPY = "main.default.copy"
COLUMNS = "id BIGINT, value INT"
TOO_LARGE = 1 << 40


def batch(first: int, rows: int, *bad: int) -> pa.RecordBatch:
    """Rows of which these do not fit into an INT."""
    ids = range(first, first + rows)
    values = [TOO_LARGE if number in bad else number for number in ids]
    return pa.record_batch({"id": pa.array(ids, pa.int64()), "value": pa.array(values, pa.int64())})


@pytest.fixture
def service(tmp_path: Path) -> Any:
    """A local Zerobus with two tables."""
    tables = {TABLE: COLUMNS, COPY: COLUMNS}
    with Emulator(
        data_dir=tmp_path / "tables", tables=tables, client_id="id", client_secret="s3cret"
    ) as running:
        yield running


def settings(service: Emulator, tmp_path: Path) -> dict[str, Any]:
    """What a wrapper is made with that delivers there and retains everything."""
    return {
        "endpoint": service.endpoint,
        "table_name": TABLE,
        "client_id": "id",
        "client_secret": "s3cret",
        "unity_catalog_url": service.unity_catalog_url,
        "wal_dir": tmp_path / "wal",
        "retry_max_delay_ms": 200,
        "retain_delivered_bytes": 1 << 30,
        "validate": "off",
    }


def stored(service: Emulator, tmp_path: Path, *batches: pa.RecordBatch) -> Path:
    """Delivers these and returns the writer directory."""
    with SyncZerobusWrapper(**settings(service, tmp_path)) as wrapper:
        until(lambda: wrapper.status()["table_schema"]["columns"] == 2, "the columns")
        for each in batches:
            wrapper.send_batch(each)
        try:
            wrapper.flush()
        except ZerobusError as error:
            assert error.code == "transmission", error
        return Path(wrapper.status()["directory"])


def waiting(tmp_path: Path, *batches: pa.RecordBatch) -> Path:
    """Stores these where nobody listens, and returns the writer directory."""
    with SyncZerobusWrapper(**offline_settings(tmp_path)) as wrapper:
        for each in batches:
            wrapper.send_batch(each)
        return Path(wrapper.status()["directory"])


def landed(service: Emulator, table: str = TABLE) -> Counter[int]:
    """How often each id is in the table."""
    return Counter(DeltaTable(service.table_path(table)).to_pyarrow_table()["id"].to_pylist())


READ: dict[str, Callable[[Path], pa.Table]] = {
    "parquet": pyarrow.parquet.read_table,
    "arrow": lambda path: pa.ipc.open_file(path).read_all(),
    "csv": pyarrow.csv.read_csv,
    "jsonl": pyarrow.json.read_json,
}


@pytest.mark.parametrize("to", list(READ))
def test_what_is_exported_is_read_by_others_as_what_was_stored(to: Any, tmp_path: Path) -> None:
    rows = pa.table(
        {
            "id": pa.array(range(200), pa.int64()),
            "name": pa.array([None if number % 7 == 0 else f"name, {number}\n" for number in range(200)]),
            "ratio": pa.array([number / 3 for number in range(200)], pa.float64()),
            "flag": pa.array([number % 2 == 0 for number in range(200)]),
        }
    )
    directory = waiting(tmp_path, *rows.to_batches(max_chunksize=50))
    output = tmp_path / f"rows.{to}"
    report = admin.export(output, directory, to=to)
    assert (report.rows, report.rows_by_state, report.unreadable) == (200, {"waiting": 200}, [])
    assert [(file.path, file.rows, file.first_lsn, file.last_lsn) for file in report.files] == [
        (output, 200, 1, 4)
    ]
    read = READ[to](output)
    if to == "csv":
        # An empty field is null to some and an empty text to others.
        read = read.set_column(1, "name", pa.array([name or None for name in read["name"].to_pylist()]))
    assert read.cast(rows.schema).equals(rows)
    if to in ("parquet", "csv"):
        reader = duckdb.read_parquet if to == "parquet" else duckdb.read_csv
        assert len(reader(str(output))) == 200
    with pytest.raises(ConfigurationError, match="--force"):
        admin.export(output, directory, to=to)


def test_nested_columns_have_no_form_in_csv_and_one_in_the_others(tmp_path: Path) -> None:
    values = {"id": [1, 2], "tags": pa.array([["a", "b"], None], pa.list_(pa.string()))}
    words = pa.array(["x", "y"]).dictionary_encode()
    directory = waiting(
        tmp_path,
        pa.record_batch(values | {"word": words}),
        pa.record_batch(values | {"word": pa.array(["z", "x"]).dictionary_encode()}),
    )
    with pytest.raises(ConversionError, match=r"tags.*jsonl"):
        admin.export(tmp_path / "rows.csv", directory, to="csv")
    formats: list[Any] = ["parquet", "arrow", "jsonl"]
    for to in formats:
        output = tmp_path / f"rows.{to}"
        admin.export(output, directory, to=to)
        read = READ[to](output)
        assert read["tags"].to_pylist() == [["a", "b"], None] * 2
        assert read["word"].to_pylist() == ["x", "y", "z", "x"]


def test_rows_are_chosen_by_number_and_time(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    directory = waiting(tmp_path, *(batch(10 * frame, 10) for frame in range(5)))

    def chosen(**choice: Any) -> int:
        return admin.export(tmp_path / "rows.parquet", directory, force=True, **choice).rows

    assert chosen(lsns=2) == 10
    assert chosen(lsns=range(2, 4)) == 20
    assert chosen(lsns="1,4-") == 30
    assert chosen(since=before) == 50
    assert chosen(since=timedelta(hours=1)) == 50
    assert chosen(until=before) == 0
    assert chosen(states=["delivered"]) == 0
    assert chosen(table=TABLE) == 50
    meaningless: list[dict[str, Any]] = [
        {"lsns": "9-5"},
        {"lsns": range(0)},
        {"since": "soon"},
        {"since": before.replace(tzinfo=None)},
        {"table": "x"},
    ]
    for choice in meaningless:
        with pytest.raises(ConfigurationError):
            chosen(**choice)
    of_wrong_types: list[dict[str, Any]] = [{"lsns": 1.5}, {"since": 5}, {"states": "waiting"}]
    for choice in of_wrong_types:
        with pytest.raises(ArgumentTypeError):
            chosen(**choice)
    with pytest.raises(ConfigurationError, match="no log of table"):
        chosen(table="main.default.nothing")


def test_quarantine_is_listed_shown_replayed_and_dropped(service: Emulator, tmp_path: Path) -> None:
    directory = stored(service, tmp_path, batch(0, 100, 3, 7), batch(100, 100, 150))
    listed = admin.quarantine_ls(directory)
    assert [(file.lsn, file.rows, file.codes) for file in listed.files] == [
        (1, 2, {"conversion": 2}),
        (2, 1, {"conversion": 1}),
    ]
    assert listed.reasons["conversion"] == admin.ReasonSummary(files=2, rows=3)
    assert all(file.is_settled and file.bytes == file.path.stat().st_size for file in listed.files)
    assert abs(datetime.now(UTC) - listed.files[0].time_unix_micros) < timedelta(minutes=10)
    assert admin.quarantine_ls(directory, reasons=["schema"]).files == []

    shown = admin.quarantine_show(directory)
    rows = pa.Table.from_batches(shown).to_pylist()
    assert [(row["id"], row["_zerobus_lsn"], row["_zerobus_row"]) for row in rows] == [
        (3, 1, 3),
        (7, 1, 7),
        (150, 2, 50),
    ]
    assert all(
        str(TOO_LARGE) in row["_zerobus_reason"] and row["_zerobus_code"] == "conversion" for row in rows
    )
    assert sum(part.num_rows for part in admin.quarantine_show(directory, limit=2)) == 2

    to = settings(service, tmp_path)
    access = {name: to[name] for name in ("client_id", "client_secret")}
    dry = admin.replay_dry_run(directory, **access)
    assert (dry.columns_from, dry.rows, dry.refused_rows) == ("catalog", 3, 3)
    assert [(row.lsn, row.row) for row in dry.refused] == [(1, 3), (1, 7), (2, 50)]
    service.sql("CREATE TABLE main.default.wide (id BIGINT, value BIGINT)")
    assert admin.replay_dry_run(directory, to_table="main.default.wide", **access).refused_rows == 0
    done = admin.replay(directory, to_table="main.default.wide", **access)
    assert (done.outcome, done.delivered_rows, done.quarantined_rows) == ("done", 3, 0)
    assert landed(service, "main.default.wide") == Counter([3, 7, 150])
    assert admin.replay(directory, to_table="main.default.wide", **access).outcome == "already_done"

    with pytest.raises(ConfigurationError, match="--all"):
        admin.quarantine_drop(directory)
    plan = admin.quarantine_drop(directory, lsns=1)
    assert (plan.executed, plan.rows, len(plan.files)) == (False, 2, 1)
    assert plan.files[0].path.exists()
    gone = admin.quarantine_drop(directory, lsns=1, execute=True)
    assert (gone.executed, gone.rows, gone.files) == (True, 2, plan.files)
    assert not plan.files[0].path.exists()
    assert [file.lsn for file in admin.quarantine_ls(directory).files] == [2]
    with SyncZerobusWrapper(**settings(service, tmp_path)) as wrapper:
        rows_now = wrapper.status()["rows"]
    assert rows_now == {"stored": 200, "delivered": 197, "quarantined": 3, "dropped": 0, "waiting": 0}


def test_a_file_that_stands_for_rows_that_are_not_settled_is_never_dropped(
    service: Emulator, tmp_path: Path
) -> None:
    # The catalog answers and no stream opens: rows are refused before anything in front of them is settled.
    service.faults({"fault": "fail_open", "code": "UNAVAILABLE"})
    with SyncZerobusWrapper(**(settings(service, tmp_path) | {"shutdown_timeout_secs": 0})) as wrapper:
        wrapper.send_batch(batch(0, 10))
        wrapper.send_batch(batch(10, 10, 15))
        until(lambda: wrapper.status()["quarantine"]["files"] == 1, "a file")
        directory = Path(wrapper.status()["directory"])
        dropped = admin.quarantine_drop(directory, everything=True, execute=True)
        assert (dropped.files, dropped.rows) == ([], 0)
        assert [(left.lsn, "not settled" in left.reason) for left in dropped.left] == [(2, True)]
        assert wrapper.status()["quarantine"]["files"] == 1


def test_missing_and_doubled_rows_are_found_by_key_and_by_count(service: Emulator, tmp_path: Path) -> None:
    directory = stored(service, tmp_path, batch(0, 50), batch(50, 50))
    table = service.table_path(TABLE)
    same = admin.reconcile(directory, delta=table, keys=["id"])
    assert (same.delivered_rows, same.target_rows, same.missing_rows, same.duplicated_rows) == (
        100,
        100,
        0,
        0,
    )
    assert admin.reconcile(directory, delta=table).missing_rows == 0

    # A table with all rows but one, another one twice, and a stranger.
    copy = settings(service, tmp_path) | {"table_name": COPY, "wal_dir": tmp_path / "other"}
    with SyncZerobusWrapper(**copy) as wrapper:
        for part in (batch(0, 42), batch(43, 57), batch(7, 1), batch(1000, 1)):
            wrapper.send_batch(part)
        wrapper.flush()
    found = admin.reconcile(directory, delta=service.table_path(COPY), keys=["id"])
    assert (found.missing_rows, found.duplicated_rows, found.unknown_rows) == (1, 1, 1)
    assert [(key.key, key.lsn, key.row, key.found) for key in found.missing] == [(["42"], 1, 42, 0)]
    assert [(key.key, key.delivered, key.found) for key in found.duplicated] == [(["7"], 1, 2)]
    assert any("retain_delivered_secs" in limit for limit in found.limits)
    with pytest.raises(ConfigurationError, match="nothing"):
        admin.reconcile(directory, delta=table, keys=["nothing"])

    counts = tmp_path / "ingest.json"
    line = {"table_name": TABLE, "commit_time": "2026-01-01T00:00:00Z", "committed_records": 90}
    counts.write_text(json.dumps([line]))
    by_count = admin.reconcile(directory, counts=counts)
    assert (by_count.delivered_rows, by_count.target_rows, by_count.missing_rows) == (100, 90, 10)
    with pytest.raises(ConfigurationError, match="one of them"):
        admin.reconcile(directory)


def test_ctrl_c_ends_a_replay_that_waits_and_the_same_call_goes_on(service: Emulator, tmp_path: Path) -> None:
    directory = waiting(tmp_path, batch(0, 100))
    service.faults({"fault": "fail_open", "code": "UNAVAILABLE"})

    def replay() -> admin.ReplayReport:
        return admin.replay(
            directory,
            states=["waiting"],
            to_table=COPY,
            endpoint=service.endpoint,
            unity_catalog_url=service.unity_catalog_url,
            client_id="id",
            client_secret="s3cret",
            retry_max_delay_ms=200,
        )

    def records() -> list[Path]:
        return list((tmp_path / "wal" / COPY).glob("replay-*/replay.json"))

    def interrupt() -> None:
        until(lambda: len(records()) == 1, "a record")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        replay()
    thread.join()
    assert landed(service, COPY) == Counter()
    with pytest.raises(ConfigurationError, match="transport"):
        admin.replay(directory, states=["waiting"], to_table=COPY, transport="pigeon")  # type: ignore[arg-type]
    service.faults(clear=True)
    report = replay()
    assert (report.outcome, report.is_resumed, report.delivered_rows) == ("done", True, 100)
    assert landed(service, COPY) == Counter(range(100))
