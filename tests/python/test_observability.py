"""Telemetry from Python: what the arguments mean, who exports, and that it holds up no process.

Goal: the numbers are those of ``status()``, whichever way they go; no receiver is noticed by the program.
Method: receivers are servers on real sockets; the program's own provider is that of ``opentelemetry-sdk``,
and what Prometheus gets is read by ``prometheus_client``.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import socket
import subprocess
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from arrow_zerobus_sdk_wrapper import ConfigurationError, SyncZerobusWrapper, ZerobusWrapper, _core
from arrow_zerobus_sdk_wrapper.emulator import Emulator
from conftest import PYTHON, TABLE, UNREACHABLE, MakeWrapper, make_batch, until
from docs_blocks import blocks_run_by
from docs_setups import SERVICE_HOST, WORKSPACE_HOST


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Collector:
    """An OTLP receiver over HTTP."""

    def __init__(self) -> None:
        self.exports: list[tuple[str, str | None, bytes]] = []
        self.logs: list[bytes] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/logs":
                    collector.logs.append(body)
                else:
                    collector.exports.append((self.path, self.headers["x-key"], body))
                self.send_response(200)
                self.end_headers()

            def log_request(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A receiver that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_dict_says_what_the_arguments_say(
    offline: MakeWrapper, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = offline(
        observability_enabled=True,
        observability_config={
            "endpoint": collector.endpoint,
            "protocol": "http/protobuf",
            "headers": {"x-key": "hunter2, or so"},
            "service_name": "edge-box",
            "resource_attributes": {"site": "north=1"},
            "interval_secs": 0.1,
        },
    )
    until(lambda: len(collector.exports) > 1, "two exports")
    path, key, body = collector.exports[0]
    assert (path, key) == ("/v1/metrics", "hunter2, or so")
    for text in ("zerobus.rows.stored", TABLE, "writer-001", "edge-box", "north=1"):
        assert text.encode() in body, text
    assert "hunter2" not in repr(wrapper) + json.dumps(wrapper.status()) + caplog.text


def test_the_program_of_the_page_exports_what_it_says(
    emulator: Emulator, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (block,) = blocks_run_by("test_observability.py::test_the_program_of_the_page_exports_what_it_says")
    program = block.body
    for shown, here in (
        (f"https://{SERVICE_HOST}", emulator.endpoint),
        (f"https://{WORKSPACE_HOST}", emulator.unity_catalog_url),
        ("6a1b4f7e-0000-0000-0000-000000000000", "id"),
        ('client_secret="..."', 'client_secret="s3cret"'),
        ("https://collector.example:4318", collector.endpoint),
        # Which the receiver of these tests writes down.
        ("authorization", "x-key"),
    ):
        assert shown in program, shown
        program = program.replace(shown, here)
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102 - the program is a page of ours

    async def deliver() -> None:
        async with names["wrapper"] as wrapper:
            await wrapper.send_batch(make_batch())
            await wrapper.flush(timeout=60)

    asyncio.run(deliver())
    # The last export is that of the end.
    (*_, (path, key, body)) = collector.exports
    assert (path, key) == ("/v1/metrics", "Bearer ...")
    for text in ("zerobus.rows.delivered", TABLE, "edge-box-7", "site", "north"):
        assert text.encode() in body, text
    assert collector.logs


EXPORTED: dict[str, Any] = {"observability_enabled": True, "observability_protocol": "http/protobuf"}


def test_what_the_library_logs_is_exported_from_the_level_on_that_is_named(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def logged(level: str) -> bytes:
        collector.logs.clear()
        with SyncZerobusWrapper(
            UNREACHABLE,
            TABLE,
            wal_dir=tmp_path / level,
            client_id="box",
            client_secret="hunter2",
            shutdown_timeout_secs=0,
            observability_endpoint=collector.endpoint,
            observability_config={"logs": level, "service_name": "edge-box"},
            **EXPORTED,
        ) as wrapper:
            wrapper.send_batch(make_batch())

            def has_failed() -> bool:
                lane = wrapper.status()["lane"]
                return lane is not None and lane["failures"] > 1

            until(has_failed, "two failures")
        return b"".join(collector.logs)

    caplog.set_level("CRITICAL", logger="arrow_zerobus_sdk_wrapper")
    came = logged("info")
    for text in ("delivery failed", "arrow_zerobus_sdk_wrapper::drain", "backing_off", "edge-box", "INFO"):
        assert text.encode() in came, (text, came)
    assert b"hunter2" not in came
    assert b"delivery failed" not in logged("warning")
    assert logged("off") == b""
    # What Python's `logging` does not want it does not get.
    assert caplog.text == ""


def test_a_logger_provider_of_the_program_has_the_logs_and_the_core_exports_none(
    tmp_path: Path, collector: Collector
) -> None:
    program = f"""
        from opentelemetry import _logs
        from opentelemetry.sdk._logs import LoggerProvider
        from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper
        import pyarrow as pa

        _logs.set_logger_provider(LoggerProvider())
        with SyncZerobusWrapper(
            {UNREACHABLE!r}, {TABLE!r}, wal_dir="wal", shutdown_timeout_secs=0, observability_enabled=True,
            observability_protocol="http/protobuf", observability_logs="debug",
        ) as wrapper:
            wrapper.send_batch(pa.record_batch({{"id": [1]}}))
    """
    ran = subprocess.run(
        [*PYTHON, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert collector.exports and collector.logs == []


def test_what_is_given_twice_is_refused_and_a_secret_is_not_repeated(tmp_path: Path) -> None:
    def refused(**arguments: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            ZerobusWrapper(UNREACHABLE, TABLE, wal_dir=tmp_path / "wal", **arguments)
        assert not (tmp_path / "wal").exists()
        return str(caught.value)

    error = refused(observability_config={"endpoint": "http://a"}, observability_endpoint="http://b")
    assert "observability_endpoint is given too" in error
    error = refused(observability_config={"header": {}})
    assert "allowed is: endpoint, protocol, headers" in error and "logs" in error
    for headers in ({"x": "hunter2\n"}, {"a b": "hunter2"}, {"x": b"hunter2"}):
        assert "hunter2" not in refused(observability_config={"headers": headers})


def test_a_key_of_the_dict_counts_before_the_environment(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARROW_ZEROBUS_OBSERVABILITY_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("ARROW_ZEROBUS_OBSERVABILITY_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("ARROW_ZEROBUS_OBSERVABILITY_ENABLED", "true")
    monkeypatch.setenv("ARROW_ZEROBUS_OBSERVABILITY_SERVICE_NAME", "of-the-environment")
    with SyncZerobusWrapper.from_env(
        endpoint=UNREACHABLE,
        table_name=TABLE,
        wal_dir=tmp_path / "wal",
        shutdown_timeout_secs=0,
        observability_config={"endpoint": collector.endpoint},
    ):
        pass
    # The one of the shutdown.
    assert len(collector.exports) == 1
    assert b"of-the-environment" in collector.exports[0][2]


def test_the_program_s_own_provider_has_the_metrics_and_the_core_exports_nothing(
    tmp_path: Path, collector: Collector
) -> None:
    program = f"""
        import json, os
        import pyarrow as pa
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper

        def read():
            data = reader.get_metrics_data()
            if data is None:
                return {{}}
            scopes = [scope for it in data.resource_metrics for scope in it.scope_metrics]
            assert {{scope.scope.name for scope in scopes}} <= {{"arrow_zerobus_sdk_wrapper"}}
            return {{
                metric.name: (metric.unit, metric.description, [
                    (dict(point.attributes), point.value) for point in metric.data.data_points
                ])
                for scope in scopes for metric in scope.metrics
            }}

        def opened(name):
            return SyncZerobusWrapper(
                {UNREACHABLE!r}, {TABLE!r}, wal_dir=name, shutdown_timeout_secs=0, observability_enabled=True,
            )

        with opened("a") as one, opened("b") as other:
            one.send_batch(pa.record_batch({{"id": [1, 2, 3]}}))
            seen = read()
            child = os.fork()
            if child == 0:
                # What its parent holds is none of its business.
                os._exit(0 if not read().get("zerobus.rows.stored", (0, 0, []))[2] else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        del one, other
        import gc
        gc.collect()
        gone = read()
        print(json.dumps([seen, gone]))
    """
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [*PYTHON, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    seen, gone = json.loads(ran.stdout)
    (_, _), table = _core.metric_table()
    pace = {"zerobus.log.time_until_full", "zerobus.log.time_until_drained"}
    assert {name for name, *_ in table} - pace <= set(seen)
    for name, _, unit, description, _ in table:
        if name in seen:
            assert seen[name][:2] == [unit, description]
    of_logs = {"zerobus.table": TABLE, "zerobus.writer": "writer-001"}
    # Both have these attributes, so one of the two is shown.
    assert [attributes for attributes, _ in seen["zerobus.rows.stored"][2]] == [of_logs]
    states = {attributes["zerobus.lane.state"]: value for attributes, value in seen["zerobus.lane.state"][2]}
    assert sum(states.values()) == 1
    assert not gone.get("zerobus.rows.stored", [0, 0, []])[2]
    assert collector.exports == []


def test_prometheus_reads_what_status_says(online: MakeWrapper, free_port: int, run: Any) -> None:
    wrapper = online(metrics_port=free_port)

    async def send() -> None:
        await wrapper.send_batch(make_batch(rows=5))
        await wrapper.flush(timeout=20)

    run(send())
    status = wrapper.status()
    code, page = get(free_port, "/metrics")
    assert code == 200
    families = {family.name: family for family in text_string_to_metric_families(page)}
    labels = {"zerobus_table": TABLE, "zerobus_writer": "writer-001"}

    def value(family: str, sample: str, **more: str) -> float:
        found = [
            it.value for it in families[family].samples if it.name == sample and it.labels == labels | more
        ]
        assert len(found) == 1, (sample, families[family])
        return found[0]

    for count in ("stored", "delivered", "quarantined", "dropped"):
        for what in ("rows", "frames"):
            assert families[f"zerobus_{what}_{count}"].type == "counter"
            assert value(f"zerobus_{what}_{count}", f"zerobus_{what}_{count}_total") == status[what][count]
    assert families["zerobus_rows_waiting"].type == "gauge"
    assert value("zerobus_rows_waiting", "zerobus_rows_waiting") == 0
    assert value("zerobus_log_limit_bytes", "zerobus_log_limit_bytes") == status["wal_max_bytes"]
    histogram = families["zerobus_append_duration_seconds"]
    assert histogram.type == "histogram"
    buckets = [sample.value for sample in histogram.samples if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1
    assert value("zerobus_append_duration_seconds", "zerobus_append_duration_seconds_count") == 1
    assert all(family.documentation for family in families.values())
    code, health = get(free_port, "/healthz")
    assert (code, json.loads(health)["status"]) == (200, "ok")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f'metrics_port is "{port}"') as caught:
            ZerobusWrapper(UNREACHABLE, TABLE, wal_dir=tmp_path / "wal", metrics_port=port)
    assert caught.value.setting == "metrics_port"
    assert not (tmp_path / "wal").exists()


@pytest.mark.parametrize("ending", ["", "wrapper.shutdown()", "del wrapper", "os.fork() or os._exit(0)"])
def test_a_receiver_that_says_nothing_keeps_no_process_from_its_end(
    tmp_path: Path, ending: str, free_port: int
) -> None:
    with silent() as endpoint:
        program = f"""
            import os, time
            import pyarrow as pa
            from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper

            wrapper = SyncZerobusWrapper(
                {UNREACHABLE!r}, {TABLE!r}, wal_dir="wal", shutdown_timeout_secs=0, metrics_port={free_port},
                observability_enabled=True, observability_endpoint={endpoint!r},
                observability_interval_secs=0.1,
            )
            wrapper.send_batch(pa.record_batch({{"id": [1, 2, 3]}}))
            {ending}
        """
        began = time.monotonic()
        ran = subprocess.run(
            [*PYTHON, "-c", textwrap.dedent(program)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert time.monotonic() - began < 20


def test_a_writer_that_is_off_shows_what_it_would_send_and_sends_nothing(tmp_path: Path) -> None:
    import pyarrow as pa

    with SyncZerobusWrapper(
        "https://1.zerobus.example.com",
        TABLE,
        wal_dir=tmp_path / "wal",
        writer_disabled=True,
        debug_enabled=True,
        debug_output_dir=tmp_path / "out",
        debug_flush_interval_secs=3600,
    ) as wrapper:
        result = wrapper.send_batch(make_batch())
        assert (result.success, result.state) == (True, "stored")
        wrapper.flush(timeout=20)
        with pa.ipc.open_stream(tmp_path / "out/zerobus/arrow" / f"{TABLE}.arrows") as stream:
            assert stream.read_all().num_rows == 3
        status = wrapper.status()
        lane = status["lane"]
        assert lane is not None
        assert (lane["state"], lane["failures"], status["rows"]["waiting"]) == ("disabled", 0, 3)
        with pytest.raises(ConfigurationError, match="writer_disabled is true"):
            wrapper.wait_delivered(result, timeout=20)


def test_a_writer_that_is_off_needs_debug_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="debug_enabled is missing"):
        ZerobusWrapper(UNREACHABLE, TABLE, wal_dir=tmp_path / "wal", writer_disabled=True)
    with pytest.raises(ConfigurationError, match="wait_for"):
        ZerobusWrapper(
            UNREACHABLE,
            TABLE,
            wal_dir=tmp_path / "wal",
            writer_disabled=True,
            debug_enabled=True,
            debug_output_dir=tmp_path / "out",
            wait_for="delivered",
        )
