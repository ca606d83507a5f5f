"""What bad input gets: an error that names it, and nothing on the disk."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import nanoarrow
import pyarrow as pa
import pytest
from arro3.core import RecordBatch as Arro3RecordBatch

from arrow_zerobus_sdk_wrapper import (
    ArgumentTypeError,
    ClosedError,
    ConfigurationError,
    ConversionError,
    FlushTimeoutError,
    ZerobusWrapper,
)
from conftest import TABLE, UNREACHABLE, MakeWrapper, make_batch


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("endpoint", 5),
        ("endpoint", ""),
        ("endpoint", "ftp://host"),
        ("endpoint", "\ud800"),
        ("max_inflight_requests", 2**62),
        ("wal_dir", "a\0b"),
        ("wal_dir", "x" * 300),
        ("table_name", "events"),
        ("table_name", "a.b.c.d"),
        ("table_name", None),
        ("client_id", 5),
        ("client_secret", b"bytes"),
        ("unity_catalog_url", "not a url"),
        ("retry_max_attempts", -1),
        ("retry_max_attempts", 2**32),
        ("retry_max_attempts", True),
        ("retry_base_delay_ms", 1.5),
        ("retry_max_delay_ms", 2**64),
        ("retry_max_delay_ms", 1),
        ("durability", "never"),
        ("durability", None),
        ("wait_for", "landed"),
        ("sync_interval_ms", -5),
        ("segment_bytes", 5),
        ("wal_max_bytes", -1),
        ("wal_max_bytes", "8GiB"),
        ("wal_min_free_bytes", -1),
        ("wal_min_free_bytes", "512MiB"),
        ("on_full", "drop"),
        ("on_full", None),
        ("block_timeout_secs", -1),
        ("block_timeout_secs", "5"),
        ("retain_delivered_secs", float("nan")),
        ("retain_delivered_secs", None),
        ("retain_delivered_bytes", 9 * 2**30),
        ("retain_delivered_bytes", 1.5),
        ("request_max_bytes", 2**30),
        ("max_inflight_requests", 0),
        ("streams", 0),
        ("streams", 65),
        ("streams", 1.5),
        ("streams", True),
        ("stream_max_age_secs", float("nan")),
        ("shutdown_timeout_secs", float("inf")),
        ("shutdown_timeout_secs", -1),
        ("wal_dir", 5),
        ("wal_dir", b"/tmp/x"),
        ("debug_enabled", 1),
        ("debug_output_dir", 5),
        ("debug_output_dir", ""),
        ("debug_flush_interval_secs", 0),
        ("debug_flush_interval_secs", None),
        ("debug_max_file_size", 0),
        ("debug_max_file_size", 1.5),
        ("debug_max_files_retained", -1),
        ("debug_arrow_enabled", None),
        ("debug_protobuf_enabled", "yes"),
        ("writer_disabled", "yes"),
        ("observability_enabled", 1),
        ("observability_config", "http://collector:4317"),
        ("observability_config", {"colour": "red"}),
        ("observability_config", {"headers": {"authorization": 5}}),
        ("observability_config", {"endpoint": {"a": "b"}}),
        ("observability_endpoint", "collector:4317"),
        ("observability_protocol", "http"),
        ("observability_headers", "authorization"),
        ("observability_service_name", " "),
        ("observability_resource_attributes", "site"),
        ("observability_logs", "loud"),
        ("observability_interval_secs", 0),
        ("metrics_port", 0),
        ("metrics_port", 65536),
        ("metrics_address", "localhost"),
        ("wal_max_byte", 5),
        ("colour", "red"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_created(tmp_path: Path, argument: str, value: Any) -> None:
    wal_dir = tmp_path / "wal"
    good: dict[str, Any] = {"endpoint": UNREACHABLE, "table_name": TABLE, "wal_dir": wal_dir}
    with pytest.raises(ConfigurationError, match=argument) as caught:
        ZerobusWrapper(**(good | {argument: value}))
    assert "is not an option" in str(caught.value) or "allowed is" in str(caught.value)
    assert caught.value.code == "configuration"
    assert not wal_dir.exists()


def test_an_unknown_option_gets_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="wal_max_byte is not an option, did you mean wal_max_bytes"):
        ZerobusWrapper(UNREACHABLE, TABLE, wal_max_byte=5)  # type: ignore[call-arg]


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ConfigurationError, match="table_name"):
        ZerobusWrapper(UNREACHABLE)  # type: ignore[call-arg]


def test_an_unwritable_wal_dir_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="wal_dir"):
        ZerobusWrapper(UNREACHABLE, TABLE, wal_dir=file / "wal")


def test_no_error_and_no_repr_shows_the_secret(offline: MakeWrapper) -> None:
    secret = "dose-of-hunter2"
    wrapper = offline(client_id="id", client_secret=secret, unity_catalog_url="http://127.0.0.1:9")
    assert secret not in repr(wrapper)
    assert secret not in str(wrapper.status())
    for wrong in ({"client_secret": secret.encode()}, {"client_secret": secret, "table_name": "x"}):
        with pytest.raises(ConfigurationError) as caught:
            offline(client_id="id", **wrong)
        assert secret not in str(caught.value) + repr(caught.value)
    with pytest.raises(TypeError):
        pickle.dumps(wrapper)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (pa.array([1]), r"pyarrow\.lib\.Int64Array"),
        (pa.array([{"id": 1}, None]), r"pyarrow\.lib\.StructArray"),
        (pa.RecordBatch, "type"),
        ({"id": [1]}, "dict"),
        (None, "NoneType"),
        (b"bytes", "bytes"),
        ([make_batch()], "list"),
    ],
)
def test_what_is_no_batch_is_a_type_error_that_names_it(
    offline: MakeWrapper, given: object, named: str
) -> None:
    wrapper = offline()
    with pytest.raises(ArgumentTypeError, match=f"expected a pyarrow.RecordBatch .*, got {named}") as caught:
        asyncio.run(wrapper.send_batch(given))  # type: ignore[arg-type]
    assert isinstance(caught.value, TypeError)
    assert (caught.value.code, caught.value.table, caught.value.lsn) == ("argument_type", TABLE, None)
    assert wrapper.status()["frames"]["stored"] == 0


@pytest.mark.parametrize(
    "batch",
    [make_batch(), Arro3RecordBatch.from_arrow(make_batch()), nanoarrow.c_array(make_batch())],
    ids=["pyarrow", "arro3", "nanoarrow"],
)
def test_whatever_exports_a_record_batch_is_stored(offline: MakeWrapper, batch: Any) -> None:
    result = asyncio.run(offline().send_batch(batch))
    assert (result.success, result.error, result.state, result.lsn) == (True, None, "stored", 1)
    assert (result.attempts, result.durable) == (0, True)
    assert result.batch_size_bytes > 0
    assert result.latency_ms is not None


def test_a_capsule_that_was_taken_before_is_a_type_error(offline: MakeWrapper) -> None:
    class Twice:
        capsules = make_batch().__arrow_c_array__()

        def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
            return self.capsules

    wrapper, twice = offline(), Twice()
    assert asyncio.run(wrapper.send_batch(twice)).lsn == 1
    for _ in range(2):
        with pytest.raises(TypeError, match="taken before"):
            asyncio.run(wrapper.send_batch(twice))


def test_a_batch_without_rows_is_a_success_that_stores_nothing(offline: MakeWrapper) -> None:
    wrapper = offline()

    async def main() -> None:
        empty = await wrapper.send_batch(make_batch(rows=0))
        assert (empty.success, empty.state, empty.lsn) == (True, "empty", None)
        assert await wrapper.wait_delivered(empty) is empty

    asyncio.run(main())
    assert wrapper.status()["frames"]["stored"] == 0


def test_a_batch_of_another_schema_is_a_success(offline: MakeWrapper) -> None:
    wrapper = offline()

    async def main() -> None:
        assert (await wrapper.send_batch(make_batch())).lsn == 1
        assert (await wrapper.send_batch(pa.record_batch({"id": [1], "price": [2.5]}))).lsn == 2
        assert (await wrapper.send_batch(make_batch())).lsn == 3

    asyncio.run(main())


def test_null_rows_are_a_type_error_also_where_the_schema_is_known(offline: MakeWrapper) -> None:
    wrapper = offline()
    rows = pa.array([{"id": 1}, {"id": 2}])
    assert asyncio.run(wrapper.send_batch(rows)).lsn == 1
    with pytest.raises(TypeError, match="null"):
        asyncio.run(wrapper.send_batch(pa.array([{"id": 1}, None], rows.type)))
    # The null row is not part of it, but its exporter may count it.
    assert asyncio.run(wrapper.send_batch(pa.array([None, {"id": 1}], rows.type)[1:])).lsn == 2
    assert wrapper.status()["rows"]["stored"] == 3


def test_a_column_type_that_delta_has_not_is_named_and_nothing_is_stored(offline: MakeWrapper) -> None:
    wrapper = offline()
    batch = pa.record_batch({"id": [1], "took": pa.array([5], pa.duration("s"))})
    with pytest.raises(ConversionError, match=r"took.*Duration"):
        asyncio.run(wrapper.send_batch(batch))
    assert wrapper.status()["frames"]["stored"] == 0


def test_text_that_is_not_utf8_is_refused_before_it_is_stored(offline: MakeWrapper) -> None:
    wrapper = offline()
    broken = pa.array([b"\xff\xfe"]).view(pa.string())

    async def main() -> None:
        # In one turn with others, which it must not hurt; and of a schema that is known by then.
        for _ in range(2):
            sends = [
                wrapper.send_batch(pa.record_batch({"id": [1], "name": name})) for name in (["a"], broken)
            ]
            good, bad = await asyncio.gather(*sends, return_exceptions=True)
            assert not isinstance(good, BaseException)
            assert isinstance(bad, ConversionError)
            assert '"name" is not valid Arrow data' in str(bad)

    asyncio.run(main())
    assert wrapper.status()["frames"]["stored"] == 2


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_a_wrong_timeout_is_refused(offline: MakeWrapper, timeout: Any, error: type[Exception]) -> None:
    wrapper = offline()
    with pytest.raises(error, match="timeout is"):
        asyncio.run(wrapper.flush(timeout=timeout))
    with pytest.raises(error, match="timeout is"):
        asyncio.run(wrapper.wait_delivered(1, timeout=timeout))


@pytest.mark.parametrize(
    ("lsn", "error"), [("1", TypeError), (True, TypeError), (0, ValueError), (2**64, ValueError)]
)
def test_a_wrong_lsn_is_refused(offline: MakeWrapper, lsn: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(offline().wait_delivered(lsn))


def test_without_a_network_batches_are_stored_and_the_status_says_why_they_wait(offline: MakeWrapper) -> None:
    wrapper = offline()

    async def main() -> None:
        result = await wrapper.send_batch(make_batch())
        with pytest.raises(FlushTimeoutError) as caught:
            await wrapper.flush(timeout=0.5)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.retryable
        with pytest.raises(FlushTimeoutError) as caught:
            await wrapper.wait_delivered(result, timeout=0.1)
        assert caught.value.lsn == result.lsn
        assert caught.value.table == TABLE

    asyncio.run(main())
    status = wrapper.status()
    assert status["rows"]["waiting"] == 3
    assert status["lane"] is not None
    assert status["lane"]["reason"]


def test_after_a_shutdown_only_another_shutdown_is_allowed(offline: MakeWrapper) -> None:
    wrapper = offline()

    async def main() -> None:
        await wrapper.shutdown()
        await wrapper.shutdown()
        with pytest.raises(ClosedError):
            await wrapper.send_batch(make_batch())
        with pytest.raises(ClosedError):
            await wrapper.flush()

    asyncio.run(main())
