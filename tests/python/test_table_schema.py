"""Batches against the columns of the table: what is refused, what is counted, what the status says.

Goal: ``validate``, ``timestamp_ns``, ``null_list`` and what ``status()`` tells of the table. Method: the
installed wheel against a local Zerobus whose table is changed by SQL; ``deltalake`` reads it back.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from arrow_zerobus_sdk_wrapper import (
    ConfigurationError,
    ConversionError,
    TransmissionError,
    ZerobusWrapper,
)
from arrow_zerobus_sdk_wrapper._results import Status
from arrow_zerobus_sdk_wrapper.emulator import Emulator, EmulatorError
from conftest import TABLE, MakeWrapper, make_batch, until


def with_extra(first: int = 0, rows: int = 3) -> pa.RecordBatch:
    """A batch of the test table with one column more."""
    return make_batch(first, rows).append_column("extra", pa.array(range(rows), pa.int32()))


def know(wrapper: ZerobusWrapper, columns: int) -> Status:
    """Waits until the columns of the table are known."""
    until(lambda: wrapper.status()["table_schema"]["columns"] == columns, "the columns")
    return wrapper.status()


def parked_reason(wrapper: ZerobusWrapper) -> str:
    """Waits until the log is parked because of what it holds; why."""

    def state() -> str:
        lane = wrapper.status()["lane"]
        assert lane is not None
        return lane["state"]

    until(lambda: state() == "poison", "the refusal")
    lane = wrapper.status()["lane"]
    assert lane is not None
    return lane["reason"] or ""


def landed(emulator: Emulator) -> pa.Table:
    return DeltaTable(str(emulator.table_path(TABLE))).to_pyarrow_table().sort_by("id")


def test_a_column_that_the_table_lacks_is_a_conversion_error_that_names_it(online: MakeWrapper) -> None:
    wrapper = online()
    assert know(wrapper, 2)["table_schema"]["age_secs"] is not None
    with pytest.raises(ConversionError, match='no column "extra"; add it') as caught:
        asyncio.run(wrapper.send_batch(with_extra()))
    error = caught.value
    assert (error.column, error.arrow_type, error.delta_type) == ("extra", "Int32", None)
    assert (error.code, error.retryable, error.lsn, error.table) == ("conversion", False, None, TABLE)
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    assert wrapper.status()["frames"]["stored"] == 0


def test_a_type_that_does_not_fit_names_both_types(online: MakeWrapper) -> None:
    wrapper = online()
    know(wrapper, 2)
    with pytest.raises(ConversionError, match="BIGINT") as caught:
        asyncio.run(wrapper.send_batch(pa.record_batch({"id": ["one"]})))
    assert (caught.value.column, caught.value.arrow_type, caught.value.delta_type) == ("id", "Utf8", "BIGINT")


def test_what_is_stored_unchecked_waits_for_the_table_to_fit(emulator: Emulator, online: MakeWrapper) -> None:
    wrapper = online(validate="off")
    know(wrapper, 2)
    asyncio.run(wrapper.send_batch(with_extra()))
    assert "extra" in parked_reason(wrapper)
    emulator.sql(f"ALTER TABLE {TABLE} ADD COLUMNS (extra INT)")
    until(lambda: wrapper.status()["rows"]["waiting"] == 0, "delivery")
    assert landed(emulator).column("extra").to_pylist() == [0, 1, 2]


def test_a_table_that_is_changed_takes_the_next_batch(emulator: Emulator, online: MakeWrapper) -> None:
    wrapper = online()
    know(wrapper, 2)
    emulator.sql(f"ALTER TABLE {TABLE} ADD COLUMN extra INT")

    def is_taken() -> bool:
        # What the catalog said is believed for a second.
        try:
            asyncio.run(wrapper.send_batch(with_extra()))
        except ConversionError:
            return False
        return True

    until(is_taken, "the column")
    asyncio.run(wrapper.flush(timeout=60))
    assert landed(emulator).column("extra").to_pylist() == [0, 1, 2]


def test_without_select_nothing_is_known_and_everything_is_delivered(
    emulator: Emulator, online: MakeWrapper
) -> None:
    emulator.sql(f"REVOKE SELECT ON TABLE {TABLE} FROM id")  # noqa: S608 - it is the test's own
    wrapper = online()
    asyncio.run(wrapper.send_batch(make_batch()))
    asyncio.run(wrapper.flush(timeout=60))
    known = wrapper.status()["table_schema"]
    assert (known["columns"], known["age_secs"]) == (None, None)
    assert "SELECT" in (known["reason"] or "")
    assert landed(emulator).num_rows == 3


def test_a_statement_that_is_not_understood_is_an_emulator_error(emulator: Emulator) -> None:
    with pytest.raises(EmulatorError, match="TRUNCATE"):
        emulator.sql(f"TRUNCATE TABLE {TABLE}")


LOSSY = pa.record_batch(
    {
        "id": [1, 2, 3],
        "at": pa.array([1_001, 2_000, None], pa.timestamp("ns", "UTC")),
        "tags": pa.array([["a"], None, []], pa.list_(pa.string())),
    }
)


def add_lossy_columns(emulator: Emulator) -> None:
    emulator.sql(f"ALTER TABLE {TABLE} ADD COLUMNS (at TIMESTAMP, tags ARRAY<STRING>)")


def test_what_a_record_cannot_hold_is_counted_over_restarts(emulator: Emulator, online: MakeWrapper) -> None:
    add_lossy_columns(emulator)
    for run in (1, 2):
        with online() as wrapper:
            asyncio.run(wrapper.send_batch(LOSSY))
            asyncio.run(wrapper.flush(timeout=60))
            status = wrapper.status()
        assert (status["floored_timestamps"], status["emptied_lists"]) == (run, run)
    assert [at.microsecond for at in landed(emulator).column("at").drop_null().to_pylist()] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("setting", "column"), [({"timestamp_ns": "error"}, "at"), ({"null_list": "error"}, "tags")]
)
def test_a_policy_of_error_keeps_the_row_and_names_the_column(
    emulator: Emulator, online: MakeWrapper, setting: dict[str, Any], column: str
) -> None:
    add_lossy_columns(emulator)
    with online(**setting) as wrapper:
        know(wrapper, 4)
        sent = asyncio.run(wrapper.send_batch(LOSSY))
        with pytest.raises(TransmissionError, match=f'"{column}"') as caught:
            asyncio.run(wrapper.wait_delivered(sent, timeout=60))
        assert (caught.value.lsn, len(caught.value.rows)) == (1, wrapper.status()["rows"]["quarantined"])


@pytest.mark.parametrize("name", ["validate", "timestamp_ns", "null_list"])
def test_another_word_for_a_policy_is_refused(offline: MakeWrapper, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is 'sometimes'"):
        offline(**{name: "sometimes"})
