"""Traces from Python: the delivery of a batch is linked with the span that the caller was in.

Goal: the spans of the core join those of the program by their ids, also when another process delivers; who
does not use OpenTelemetry has nothing of it imported.
Method: spans are made by the official SDK and read as what a receiver gets; pyarrow reads the frames.
"""

from __future__ import annotations

import struct
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper
from conftest import PYTHON, TABLE, UNREACHABLE, MakeWrapper, make_batch, offline_settings, until
from test_observability import Collector


@pytest.fixture
def collectors() -> Iterator[tuple[Collector, Collector]]:
    with Collector() as one, Collector() as other:
        yield one, other


def exporting(collector: Collector) -> dict[str, Any]:
    return {
        "observability_enabled": True,
        "observability_endpoint": collector.endpoint,
        "observability_protocol": "http/protobuf",
        "observability_interval_secs": 0.1,
    }


def spans(collector: Collector) -> bytes:
    return b"".join(body for path, _, body in list(collector.exports) if path == "/v1/traces")


def stored(directory: Path) -> Iterator[tuple[dict[bytes, bytes], int]]:
    """The metadata and the rows of each frame, as pyarrow reads them."""
    for path in sorted(directory.rglob("segment-*.wal")):
        data, at, schema = path.read_bytes(), 4096, b""
        (segment,) = struct.unpack_from("<Q", data, 24)
        while at < len(data):
            if data[at : at + 4] != b"ZBfr" or struct.unpack_from("<Q", data, at + 32) != (segment,):
                if at % 4096 == 0:
                    break
                at += -at % 4096
                continue
            kind, length = struct.unpack_from("<B3xI", data, at + 4)
            body = data[at + 80 : at + 80 + length]
            if kind == 1:
                schema = body
            elif kind == 2:
                reader = pa.ipc.open_stream(schema + body)
                batch, metadata = reader.read_next_batch_with_custom_metadata()
                batch.validate(full=True)
                yield dict(metadata or {}), batch.num_rows
            else:
                break
            at += 80 + length


def test_the_delivery_is_linked_with_the_caller_s_trace_whoever_delivers(
    tmp_path: Path, online: MakeWrapper, collectors: tuple[Collector, Collector], run: Any
) -> None:
    before, after = collectors
    tracer = TracerProvider().get_tracer("test")
    ids: list[bytes] = []

    async def store() -> None:
        from arrow_zerobus_sdk_wrapper import ZerobusWrapper

        settings = offline_settings(tmp_path) | exporting(before)
        async with ZerobusWrapper(**settings) as wrapper:
            with tracer.start_as_current_span("caller") as span:
                ids.append(span.get_span_context().trace_id.to_bytes(16, "big"))
                await wrapper.send_batch(make_batch())
            await wrapper.send_batch(make_batch())

    run(store())
    with (
        SyncZerobusWrapper(**(offline_settings(tmp_path) | exporting(before))) as wrapper,
        tracer.start_as_current_span("caller") as span,
    ):
        ids.append(span.get_span_context().trace_id.to_bytes(16, "big"))
        wrapper.send_batch(make_batch())
    sent = spans(before)
    assert sent.count(f"send {TABLE}".encode()) == 2
    assert all(trace_id in sent for trace_id in ids)
    assert b"process " not in sent

    frames = list(stored(tmp_path / "wal"))
    assert [rows for _, rows in frames] == [3, 3, 3]
    parents = [metadata.get(b"traceparent") for metadata, _ in frames]
    assert parents[1] is None
    for parent, trace_id in zip((parents[0], parents[2]), ids, strict=True):
        assert parent is not None
        assert parent.startswith(b"00-" + trace_id.hex().encode())

    online(**exporting(after))
    until(lambda: all(trace_id in spans(after) for trace_id in ids), "links with both traces")
    delivered = spans(after)
    assert f"process {TABLE}".encode() in delivered
    assert b"send " not in delivered
    for parent in (parents[0], parents[2]):
        assert parent is not None
        assert bytes.fromhex(parent.split(b"-")[2].decode()) in delivered


def test_a_span_that_is_not_sampled_and_a_wrapper_without_telemetry_store_no_trace(
    tmp_path: Path, collectors: tuple[Collector, Collector]
) -> None:
    collector, _ = collectors
    for sampler, settings in ((ALWAYS_OFF, exporting(collector)), (None, {})):
        tracer = TracerProvider(sampler=sampler).get_tracer("test")
        with (
            SyncZerobusWrapper(**(offline_settings(tmp_path) | settings)) as wrapper,
            tracer.start_as_current_span("caller"),
        ):
            assert trace.get_current_span().get_span_context().is_valid
            wrapper.send_batch(make_batch())
    assert list(stored(tmp_path / "wal")) == [({}, 3), ({}, 3)]
    assert spans(collector) == b""


def test_with_a_meter_provider_of_the_program_the_core_exports_spans_where_the_environment_says(
    tmp_path: Path, collectors: tuple[Collector, Collector]
) -> None:
    program = f"""
        import pyarrow as pa
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider

        metrics.set_meter_provider(MeterProvider())
        from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper

        with SyncZerobusWrapper(
            {UNREACHABLE!r}, {TABLE!r}, wal_dir="wal", shutdown_timeout_secs=0, observability_enabled=True,
        ) as wrapper, TracerProvider().get_tracer("test").start_as_current_span("caller"):
            wrapper.send_batch(pa.record_batch({{"id": [1]}}))
    """
    for name, paths in (("OTEL_EXPORTER_OTLP_ENDPOINT", {"/v1/traces"}), ("UNRELATED", set[str]())):
        collector = collectors[0 if paths else 1]
        ran = subprocess.run(
            [*PYTHON, "-c", textwrap.dedent(program)],
            cwd=tmp_path,
            env={
                name: collector.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert {path for path, _, _ in collector.exports} == paths
        assert (f"send {TABLE}".encode() in spans(collector)) == bool(paths)
    assert [bool(metadata) for metadata, _ in stored(tmp_path / "wal")] == [True, False]


def test_opentelemetry_is_not_imported_for_a_program_that_does_not_use_it(
    tmp_path: Path, collectors: tuple[Collector, Collector]
) -> None:
    program = f"""
        import sys
        import pyarrow as pa
        from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper

        with SyncZerobusWrapper(
            {UNREACHABLE!r}, {TABLE!r}, wal_dir="wal", shutdown_timeout_secs=0,
            observability_enabled=True, observability_endpoint={collectors[0].endpoint!r},
            observability_protocol="http/protobuf",
        ) as wrapper:
            wrapper.send_batch(pa.record_batch({{"id": [1]}}))
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
    """
    ran = subprocess.run(
        [*PYTHON, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert spans(collectors[0]) == b""
