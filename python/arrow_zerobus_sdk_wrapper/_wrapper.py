"""``ZerobusWrapper``: the asyncio face of the log and its drainer."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, Unpack, cast

from . import _blocking, _core, _display, _logging, _options, _traces
from ._bridge import running_bridge, send
from ._exports import Exports
from ._frames import Together, checked_timeout, each_frame
from ._inputs import ArrowBatchStream, ArrowRecordBatch
from ._observability import Observability
from ._results import Status, TransmissionResult
from ._settings import WrapperArguments, open_with


class ZerobusWrapper:
    """A durable buffer between Arrow record batches and one Databricks Zerobus table.

    ``await send_batch(batch)`` returns when the batch is safe on the local disk. A background drainer
    delivers it, for as long as that takes, also for a later process with the same ``wal_dir``.

    All methods may be called from any thread and any event loop. A wrapper belongs to the process
    that made it: in a forked child every call raises ``ForkedProcessError``, and so does the constructor
    in a child of a process that has made one. Start such children with ``spawn`` or ``forkserver``.

    Args:
        endpoint: Zerobus endpoint, ``https://`` is added when the scheme is missing. ``http://`` is
            for a local emulator.
        table_name: Target table, ``catalog.schema.table``.
        client_id: OAuth client id of the service principal.
        client_secret: OAuth client secret. It is never shown, logged or stored.
        client_secret_file: A file with the secret, instead of ``client_secret``. It is read whenever a token
            is fetched, so that a secret which is rotated there is used by itself.
        unity_catalog_url: URL of the workspace, where tokens and the table's columns come from.
        ca_certificate_file: A PEM file with the CAs that are trusted besides those of the system, for
            streams, tokens and the catalog.
        client_certificate_file: A PEM file with the certificate to show where one is asked for, and those
            between it and the CA; with ``client_key_file``.
        client_key_file: A PEM file with the key of that certificate, not encrypted. The three files are read
            once, by the constructor.
        proxy: URL of an HTTP proxy for everything, ``http://host:port``. None: that of the environment
            (``https_proxy`` and its relatives).
        observability_enabled: Exports metrics, spans and log records with OpenTelemetry: to
            ``observability_endpoint``; without one, metrics through the meter provider that the program has
            set in the package ``opentelemetry``; without that, to ``OTEL_EXPORTER_OTLP_ENDPOINT``, else to a
            collector on this machine. No receiver, whatever it does, holds up sending or delivery.
            ``docs/operations/observability.md``
        observability_config: The ``observability_*`` arguments below as a dict, without that prefix:
            ``endpoint``, ``protocol``, ``headers`` and ``resource_attributes``, which may be dicts here,
            ``service_name``, ``logs``, ``interval_secs``.
        debug_enabled: Writes each batch that was stored into debug files too, which pyarrow and protobuf
            read: ``<debug_output_dir>/zerobus/arrow/<table>.arrows`` and ``zerobus/proto/<table>.binpb`` with
            ``<table>.desc``. They are no part of what is promised: what they cannot take in time is left out
            and logged, and sending goes on.
        debug_output_dir: Where the debug files go; needed for ``debug_enabled``.
        debug_flush_interval_secs: How many seconds old a batch is, at most, before it stands in the debug
            files.
        debug_max_file_size: A debug file that would become larger than so many bytes is rotated; None sets no
            limit.
        retry_max_attempts: Attempts in a row that may fail before ``flush`` and a wrapper with
            ``wait_for="delivered"`` give up waiting. Delivery itself never gives up.
        retry_base_delay_ms: First upper bound of the random wait between attempts, in milliseconds.
        retry_max_delay_ms: Last upper bound of it, in milliseconds.
        wal_dir: Root of all logs. Default: ``$XDG_STATE_HOME/arrow-zerobus``. Each live wrapper has a log of
            its own below it, ``<table>/writer-NNN``: the first that nobody owns. What waits in logs whose
            owners are gone, and goes to the same endpoint, is delivered by any wrapper of the table.
        exclusive: Raises ``LockedError`` while another wrapper of this table and ``wal_dir`` lives, in this
            process or another.
        durability: ``"sync"``: synced to the disk before ``send_batch`` returns. ``"interval"``:
            synced every ``sync_interval_ms``. ``"os"``: left to the operating system; survives a
            killed process, not a power cut.
        sync_interval_ms: For ``durability="interval"``, in milliseconds.
        wait_for: ``"stored"``: ``send_batch`` returns when the batch is in the log. ``"delivered"``:
            when the service has acknowledged it.
        validate: ``"strict"``: ``send_batch`` refuses a batch whose schema can never fit the table, as far
            as the table's columns are known (``status()["table_schema"]``), and otherwise one that fits no
            table. ``"off"``: everything is stored; what does not fit waits for
            ``schema_grace_secs``.
        timestamp_ns: What becomes of timestamps in nanoseconds, for the service counts in microseconds.
            ``"floor"``: the microsecond in which the instant lies, counted in ``status()``. ``"error"``: a
            row whose timestamp would lose something is put into quarantine.
        null_list: What becomes of a null list or map in a nullable column, which a record cannot tell from
            an empty one. ``"empty"``: an empty one, counted in ``status()``. ``"error"``: its row is put
            into quarantine.
            With ``transport="arrow_flight"`` it stays null.
        segment_bytes: Size of one file of the log in bytes; a batch must fit into one.
        wal_max_bytes: Quota of the log in bytes. At the quota the log is full. A segment is at most a
            quarter of it.
        wal_min_free_bytes: Bytes that are left free on the file system of the log. When it has less, the log
            is full too; ``status()["full"]`` says so. On a file system that is hardly larger than this set it
            lower; 0 lets the log take everything.
        on_full: What ``send_batch`` does when the log is full. ``"block"``: it waits, in order, until
            delivery has made room. ``"reject"``: it raises ``BufferFullError``. ``"drop_oldest"``: whole
            segments of the frames that wait longest are dropped until there is room; they are counted in
            ``status()``, logged, and reported by ``flush`` and ``wait_delivered``. What was sent and not
            acknowledged within 5 s is dropped with them and may have been delivered.
        block_timeout_secs: For ``on_full="block"``: how many seconds ``send_batch`` waits before it raises
            ``BufferFullError``; None waits for ever.
        retain_delivered_secs: How many seconds delivered segments are kept for replay, from their last
            append on; 0 sets no such limit.
        retain_delivered_bytes: How many bytes of delivered segments are kept; 0 sets no such limit. Without
            any of the two they are freed at once; with both the stricter one counts. What is kept counts for
            the quota, and goes first when the log is full.
        schema_grace_secs: How many seconds a schema that the table refuses is waited for, so that an
            ``ALTER TABLE`` can catch up. Nothing behind it is delivered meanwhile. After that its frames
            are put into quarantine as a whole.
        quarantine_max_bytes: How many bytes there may be in quarantine, where refused rows are kept as Arrow
            files with the reason. When they do not fit they stay in the log, and with them what is behind
            them, until files are taken out or this is set higher. 0 puts nothing into quarantine.
        transport: As what the rows travel. ``"protobuf"``: as records. ``"arrow_flight"``: as Arrow batches,
            which keep null lists, null elements and lists of lists, and can be compressed. A log that was
            filled for one is delivered by the other as well.
        delivery: How often a row is in the table when something failed on the way. ``"at_least_once"``: once,
            and twice if it was sent and not acknowledged by then. ``"exactly_once"``: once, over the
            service's persistent streams. Only with ``transport="protobuf"``. It can be another one at each
            start; what was sent before is finished first.
        compression: How Arrow batches are compressed on the way: ``"none"``, ``"lz4"`` or ``"zstd"``, which
            is what None means. Only with ``transport="arrow_flight"``.
        request_max_bytes: Largest request to the service in bytes. Arrow batches are at most 2 MiB, whatever
            this says, and are counted before they are compressed.
        max_inflight_requests: How many requests may be sent and not acknowledged, on each stream. Memory and
            duplicates grow with it.
        streams: How many streams deliver at the same time, at most; 1 to 64. With more than one, rows arrive
            in no order, and memory and duplicates are those of so many windows. Only with
            ``delivery="at_least_once"``.
        stream_max_age_secs: Age in seconds at which a stream is replaced before the service ends it.
        shutdown_timeout_secs: How many seconds ``shutdown`` goes on delivering.
        debug_max_files_retained: How many rotated debug files of each kind are kept of this table.
        debug_arrow_enabled: Whether there is a debug file of Arrow batches.
        debug_protobuf_enabled: Whether there is a debug file of protobuf records.
        writer_disabled: Delivers nothing: batches are stored and written into the debug files, which are
            needed for it, without network or credentials. They wait in the log, and a later wrapper without
            this delivers them. ``flush`` waits for the files; ``wait_delivered`` raises.
        observability_endpoint: Where metrics, spans and log records go, ``http://host[:port]``.
        observability_protocol: ``"grpc"`` or ``"http/protobuf"``. None: ``OTEL_EXPORTER_OTLP_PROTOCOL``, else
            ``"grpc"``.
        observability_headers: Headers of each export, ``name=value`` with commas between them and percent
            signs where needed. Never shown or logged.
        observability_service_name: The ``service.name``. None: ``OTEL_SERVICE_NAME``, else ``arrow-zerobus``.
        observability_resource_attributes: More attributes of the resource, written as the headers are.
        observability_logs: Of which level on what is logged is exported: ``"off"``, ``"error"``,
            ``"warning"``, ``"info"`` or ``"debug"``; whatever the levels of ``logging`` are. Nothing is
            where there is no endpoint and the program has a logger provider of its own.
        observability_interval_secs: How many seconds lie between two exports.
        metrics_port: A port on which ``/metrics`` is served for Prometheus, and ``/healthz``, which answers
            503 with the reason when a log makes no progress. Wrappers of one process share it; one that
            somebody else has is an error.
        metrics_address: The IP address that the port is opened on. None: 127.0.0.1.

    Raises:
        ConfigurationError: An argument is wrong; it is named, with its value and what is allowed.
            Nothing was created on disk.
        LockedError: With ``exclusive=True``: another wrapper of the table lives; its process is named.
        StorageError: The log cannot be opened or created.

    Examples:
        With a local Zerobus, an ``Emulator``:

        >>> async def main():
        ...     async with ZerobusWrapper(
        ...         emulator.endpoint,
        ...         "main.default.events",
        ...         client_id="id",
        ...         client_secret="s3cret",
        ...         unity_catalog_url=emulator.unity_catalog_url,
        ...         wal_dir=wal_dir,
        ...     ) as wrapper:
        ...         batch = pyarrow.record_batch({"id": [1, 2, 3], "name": ["a", "b", None]})
        ...         result = await wrapper.send_batch(batch)
        ...         print(result.state, result.lsn)
        ...         await wrapper.flush(timeout=30)
        ...         print(wrapper.status()["rows"]["delivered"])
        >>> asyncio.run(main())
        stored 1
        3
    """

    __slots__ = ("__weakref__", "_core", "_endpoint", "_exports", "_is_traced", "_table_name", "_wal_dir")

    @_options.refuse_unknown_options
    def __init__(
        self,
        endpoint: str,
        table_name: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        client_secret_file: str | os.PathLike[str] | None = None,
        unity_catalog_url: str | None = None,
        ca_certificate_file: str | os.PathLike[str] | None = None,
        client_certificate_file: str | os.PathLike[str] | None = None,
        client_key_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        observability_enabled: bool = False,
        observability_config: dict[str, Any] | None = None,
        debug_enabled: bool = False,
        debug_output_dir: str | os.PathLike[str] | None = None,
        debug_flush_interval_secs: float = 5,
        debug_max_file_size: int | None = None,
        retry_max_attempts: int = 5,
        retry_base_delay_ms: int = 100,
        retry_max_delay_ms: int = 30000,
        wal_dir: str | os.PathLike[str] | None = None,
        exclusive: bool = False,
        durability: Literal["sync", "interval", "os"] = "sync",
        sync_interval_ms: int = 100,
        wait_for: Literal["stored", "delivered"] = "stored",
        validate: Literal["strict", "off"] = "strict",
        timestamp_ns: Literal["floor", "error"] = "floor",
        null_list: Literal["empty", "error"] = "empty",
        segment_bytes: int = 64 * 1024 * 1024,
        wal_max_bytes: int = 8 * 1024 * 1024 * 1024,
        wal_min_free_bytes: int = 512 * 1024 * 1024,
        on_full: Literal["block", "reject", "drop_oldest"] = "block",
        block_timeout_secs: float | None = None,
        retain_delivered_secs: float = 0,
        retain_delivered_bytes: int = 0,
        schema_grace_secs: float = 300,
        quarantine_max_bytes: int = 1024 * 1024 * 1024,
        transport: Literal["protobuf", "arrow_flight"] = "protobuf",
        delivery: Literal["at_least_once", "exactly_once"] = "at_least_once",
        compression: Literal["none", "lz4", "zstd"] | None = None,
        request_max_bytes: int = 1_000_000,
        max_inflight_requests: int = 16,
        streams: int = 1,
        stream_max_age_secs: float = 600,
        shutdown_timeout_secs: float = 30,
        debug_max_files_retained: int = 10,
        debug_arrow_enabled: bool = True,
        debug_protobuf_enabled: bool = True,
        writer_disabled: bool = False,
        observability_endpoint: str | None = None,
        observability_protocol: Literal["grpc", "http/protobuf"] | None = None,
        observability_headers: str | None = None,
        observability_service_name: str | None = None,
        observability_resource_attributes: str | None = None,
        observability_logs: Literal["off", "error", "warning", "info", "debug"] = "info",
        observability_interval_secs: float = 60,
        metrics_port: int | None = None,
        metrics_address: str | None = None,
    ) -> None:
        observability = Observability(
            enabled=observability_enabled,
            config=observability_config,
            endpoint=observability_endpoint,
            protocol=observability_protocol,
            headers=observability_headers,
            service_name=observability_service_name,
            resource_attributes=observability_resource_attributes,
            logs=observability_logs,
            interval_secs=observability_interval_secs,
        )
        self._endpoint = _options.text("endpoint", endpoint)
        self._table_name = _options.text("table_name", table_name)
        self._wal_dir = _options.optional_path("wal_dir", wal_dir)
        settings: _core.Settings = {
            "endpoint": self._endpoint,
            "table_name": self._table_name,
            "client_id": _options.optional_text("client_id", client_id),
            "client_secret": _options.optional_text("client_secret", client_secret),
            "client_secret_file": _options.optional_path("client_secret_file", client_secret_file),
            "ca_certificate_file": _options.optional_path("ca_certificate_file", ca_certificate_file),
            "client_certificate_file": _options.optional_path(
                "client_certificate_file", client_certificate_file
            ),
            "client_key_file": _options.optional_path("client_key_file", client_key_file),
            "proxy": _options.optional_text("proxy", proxy),
            "unity_catalog_url": _options.optional_text("unity_catalog_url", unity_catalog_url),
            "wal_dir": self._wal_dir,
            "exclusive": _options.boolean("exclusive", exclusive),
            "durability": _options.choice("durability", durability, ("sync", "interval", "os")),
            "sync_interval_ms": _options.integer("sync_interval_ms", sync_interval_ms),
            "wait_for": _options.choice("wait_for", wait_for, ("stored", "delivered")),
            "validate": _options.choice("validate", validate, ("strict", "off")),
            "timestamp_ns": _options.choice("timestamp_ns", timestamp_ns, ("floor", "error")),
            "null_list": _options.choice("null_list", null_list, ("empty", "error")),
            "segment_bytes": _options.integer("segment_bytes", segment_bytes),
            "wal_max_bytes": _options.integer("wal_max_bytes", wal_max_bytes),
            "wal_min_free_bytes": _options.integer("wal_min_free_bytes", wal_min_free_bytes),
            "on_full": _options.choice("on_full", on_full, ("block", "reject", "drop_oldest")),
            "block_timeout_secs": _options.optional_seconds("block_timeout_secs", block_timeout_secs),
            "retain_delivered_secs": _options.seconds("retain_delivered_secs", retain_delivered_secs),
            "retain_delivered_bytes": _options.integer("retain_delivered_bytes", retain_delivered_bytes),
            "schema_grace_secs": _options.seconds("schema_grace_secs", schema_grace_secs),
            "quarantine_max_bytes": _options.integer("quarantine_max_bytes", quarantine_max_bytes),
            "transport": _options.choice("transport", transport, ("protobuf", "arrow_flight")),
            "delivery": _options.choice("delivery", delivery, ("at_least_once", "exactly_once")),
            "compression": _options.optional_choice("compression", compression, ("none", "lz4", "zstd")),
            "request_max_bytes": _options.integer("request_max_bytes", request_max_bytes),
            "max_inflight_requests": _options.integer("max_inflight_requests", max_inflight_requests),
            "streams": _options.integer("streams", streams),
            "stream_max_age_secs": _options.seconds("stream_max_age_secs", stream_max_age_secs),
            "retry_max_attempts": _options.integer(
                "retry_max_attempts", retry_max_attempts, _options.ATTEMPTS_MAX
            ),
            "retry_base_delay_ms": _options.integer("retry_base_delay_ms", retry_base_delay_ms),
            "retry_max_delay_ms": _options.integer("retry_max_delay_ms", retry_max_delay_ms),
            "shutdown_timeout_secs": _options.seconds("shutdown_timeout_secs", shutdown_timeout_secs),
            "debug_enabled": _options.boolean("debug_enabled", debug_enabled),
            "debug_output_dir": _options.optional_path("debug_output_dir", debug_output_dir),
            "debug_flush_interval_secs": _options.seconds(
                "debug_flush_interval_secs", debug_flush_interval_secs
            ),
            "debug_max_file_size": _options.optional_integer("debug_max_file_size", debug_max_file_size),
            "debug_max_files_retained": _options.integer(
                "debug_max_files_retained", debug_max_files_retained
            ),
            "debug_arrow_enabled": _options.boolean("debug_arrow_enabled", debug_arrow_enabled),
            "debug_protobuf_enabled": _options.boolean("debug_protobuf_enabled", debug_protobuf_enabled),
            "writer_disabled": _options.boolean("writer_disabled", writer_disabled),
            "observability_enabled": observability.core_exports,
            "observability_endpoint": observability.endpoint,
            "observability_protocol": observability.protocol,
            "observability_headers": observability.headers,
            "observability_service_name": observability.service_name,
            "observability_resource_attributes": observability.resource_attributes,
            "observability_logs": observability.logs,
            "observability_interval_secs": observability.interval_secs,
            "metrics_port": _options.optional_integer("metrics_port", metrics_port, _options.PORT_MAX),
            "metrics_address": _options.optional_text("metrics_address", metrics_address),
        }
        _logging.start()
        self._core = _core.Wrapper(settings, observability.core_exports_metrics)
        self._exports = Exports()
        self._is_traced = observability.core_exports
        observability.observe(self)

    @classmethod
    def from_env(cls, **arguments: Unpack[WrapperArguments]) -> Self:
        """Makes a wrapper of what the environment says.

        A variable is ``ARROW_ZEROBUS_`` and the name of an argument in capitals. Also read are
        ``ZEROBUS_ENDPOINT``, ``ZEROBUS_TABLE_NAME``, ``ZEROBUS_CLIENT_ID``, ``ZEROBUS_CLIENT_SECRET`` and
        ``UNITY_CATALOG_URL``. One that is empty counts as not set. Sizes and times may have units, such as
        ``64MiB`` and ``250ms``; ``docs/settings.md`` has the rest.

        Args:
            **arguments: Arguments of the constructor. They count before the environment.

        Raises:
            ConfigurationError: A variable or an argument is wrong, or one is missing; it is named, with its
                value and what is allowed. Nothing was created on disk.
            LockedError: Another process owns the writer directory; it is named.
            StorageError: The log cannot be opened or created.
        """
        return open_with(cls, arguments)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **arguments: Unpack[WrapperArguments]) -> Self:
        """Makes a wrapper of what a file says, and the environment, which counts before the file.

        The keys are the names of the constructor's arguments. Relative paths in the file start from its
        directory.

        Args:
            path: A TOML or YAML file: ``.toml``, ``.yaml`` or ``.yml``.
            **arguments: Arguments of the constructor. They count before both.

        Raises:
            ConfigurationError: The file cannot be read, or a key of it, a variable or an argument is wrong,
                or one is missing; it is named, with its value and what is allowed. Nothing was created on
                disk.
            LockedError: Another process owns the writer directory; it is named.
            StorageError: The log cannot be opened or created.
        """
        return open_with(cls, arguments, path)

    def _traceparent(self) -> str | None:
        """The trace of the caller, if spans are exported."""
        return _traces.traceparent() if self._is_traced else None

    async def send_batch(self, batch: ArrowRecordBatch | ArrowBatchStream) -> TransmissionResult:
        """Stores a record batch, and with ``wait_for="delivered"`` waits for its acknowledgement.

        The buffers of the batch are read while the call is under way; do not change them before it has
        returned. Calls that are under way at the same time are stored in any order; make one after the other
        to have an order.

        A stream is stored batch by batch, in its order: the next batch is asked for when the one before is
        stored, or acknowledged with ``wait_for="delivered"``, so that there is one in memory, however many
        there are. It is asked for in the thread of this call: what the stream does for it holds up whatever
        else this thread has to do, and Ctrl-C. Each batch is a frame with a sync of its own; small ones are
        better put together before.

        Columns are matched with those of the table by name, in any order; nullable ones may be missing. What
        the service cannot hold exactly has a policy, ``timestamp_ns`` and ``null_list``. A value that the
        table's column cannot hold, such as a number out of its range, is found at delivery: its row is put
        into quarantine with the reason, and the other rows are delivered.

        Args:
            batch: ``pyarrow.RecordBatch`` or another object with ``__arrow_c_array__``; or a stream of record
                batches, an object with ``__arrow_c_stream__`` such as ``pyarrow.Table``,
                ``pyarrow.RecordBatchReader``, ``polars.DataFrame``, ``pandas.DataFrame`` or a relation of
                ``duckdb``. A batch without rows is a success that stores nothing. The schema may differ from
                the last.

        Returns:
            What became of the batch, with its ``lsn``; of all batches of a stream, with their ``lsns``.

        Raises:
            ArgumentTypeError: ``batch`` is neither a record batch nor a stream of them.
            SourceError: The stream failed to give a batch.
            ConversionError: The schema of the batch does not fit the table, or any table if nothing is known
                of ours; the error names the column, its types and what to do. Or it has values that are not
                valid Arrow. Nothing was stored. The catalog was asked again before, which may take seconds: a
                table that has got the column meanwhile is no reason.
            BatchTooLargeError: The batch does not fit into a segment, and so not into the quota. Nothing was
                stored; the sizes and the setting are named.
            BufferFullError: The log is at its quota, or the disk at its floor, and ``on_full`` does not let
                the call wait, or not any longer. Nothing was stored; later it can be.
            StorageError: The disk refused the write.
            PoisonedError: An earlier write or sync failed; the log takes no more.
            RetryExhausted: Only with ``wait_for="delivered"``: the attempts failed. The batch is
                stored under ``lsn`` and goes on being tried.
            TransmissionError: Only with ``wait_for="delivered"``: ``rows`` of it were refused for good and
                are in quarantine, the others are delivered; or the service refuses the batch, which is
                stored under ``lsn``; or it was dropped, which ``on_full="drop_oldest"`` allows, and says so.
            ClosedError: The wrapper was shut down.

        An error in the middle of a stream has ``stored_lsns``, the frames that are stored and must not be
        sent again, and its message, or a note of an exception that is not ours, says how many they are.

        Cancellation:
            Cancelled while it waits for room in the log, nothing was stored; later, the batch may be
            stored and then is delivered. An append that was started is always finished. What was stored of a
            stream before is said in a note of the exception.
        """
        given = self._exports.of(batch)
        if given is not None and not isinstance(given, tuple):
            with given as batches, Together(given.name) as sent:
                for one in batches:
                    sent.add(await self.send_batch(one))
                return sent.result()
        traceparent = self._traceparent() if self._is_traced else None
        bridge, token, outcome = send(self._core, batch, given, traceparent)
        try:
            return await outcome
        except (asyncio.CancelledError, GeneratorExit):
            bridge.cancel(token)
            raise

    async def wait_delivered(
        self, result_or_lsn: TransmissionResult | int, timeout: float | None = None
    ) -> TransmissionResult:
        """Waits until a stored batch is delivered, or all batches of a stream, one after the other.

        Args:
            result_or_lsn: What ``send_batch`` returned, or an LSN.
            timeout: Longest wait in seconds; None waits for ever.

        Returns:
            The result with ``state="delivered"``; that of an empty batch as it is.

        Raises:
            ArgumentTypeError: ``result_or_lsn`` is neither, or ``timeout`` is not a number.
            ConfigurationError: No frame has this number, or ``timeout`` is negative.
            FlushTimeoutError: The time is over. Delivery goes on.
            PausedError: Somebody has paused delivery (``zerobus-wal pause``).
            RetryExhausted: ``retry_max_attempts`` attempts in a row have failed. Delivery goes on.
            TransmissionError: ``rows`` of it were refused for good and are in quarantine, the others are
                delivered; or the service refuses the table; or the batch was dropped, which
                ``on_full="drop_oldest"`` allows, and is not delivered.
            ClosedError: The wrapper was shut down.

        The frame is the error's ``lsn``; those of a stream behind it were not waited for.

        Cancellation:
            Ends the wait and nothing else.
        """
        waited = Together()
        for lsn, left in each_frame(result_or_lsn, timeout):
            start = functools.partial(self._core.wait_delivered, lsn, left)
            waited.add(cast(TransmissionResult, await running_bridge().run(start)))
        return waited.of_what_was_waited_for(result_or_lsn)

    async def flush(self, timeout: float | None = None) -> None:
        """Waits until every batch that was stored before the call is delivered, or in quarantine.

        Args:
            timeout: Longest wait in seconds; None waits until delivery succeeds or the attempts of
                ``retry_max_attempts`` have failed.

        Raises:
            ArgumentTypeError: ``timeout`` is not a number.
            ConfigurationError: ``timeout`` is negative.
            FlushTimeoutError: The time is over.
            PausedError: Somebody has paused delivery (``zerobus-wal pause``).
            RetryExhausted: ``retry_max_attempts`` attempts in a row have failed since the call.
            AuthenticationError: The service refuses us; it is asked again.
            TransmissionError: The service refuses the table; or rows were put into quarantine since the last
                ``flush``, or frames were dropped, which ``on_full="drop_oldest"`` allows. How many and where
                is said once; everything else is delivered.
            ClosedError: The wrapper was shut down.

        Whatever else is raised, nothing is lost and delivery goes on.

        Cancellation:
            Ends the wait and nothing else.
        """
        await running_bridge().run(functools.partial(self._core.flush, checked_timeout(timeout)))

    async def shutdown(self) -> None:
        """Stops intake, delivers for at most ``shutdown_timeout_secs``, closes the log.

        What is left stays in the log for the next start and is no error. A second call does nothing;
        any other call afterwards raises ``ClosedError``.

        Raises:
            StorageError: The log could not be closed cleanly. Nothing is lost.

        Cancellation:
            Ends the wait; the shutdown goes on.
        """
        await running_bridge().run(self._core.shutdown, cancellable=False)

    def update_credentials(self, *, client_secret: str, client_id: str | None = None) -> None:
        """Lets streams and the catalog use these credentials from now on.

        Delivery that is parked or waits tries again at once. Nothing is stored: the next start needs them
        too. A secret that is given here counts instead of the one in ``client_secret_file``.

        Args:
            client_secret: OAuth client secret. It is never shown, logged or stored.
            client_id: OAuth client id; None leaves it as it is.

        Raises:
            ConfigurationError: They are blank or no text, or the wrapper was made without credentials.
                Nothing was changed.
            ClosedError: The wrapper was shut down.
            ForkedProcessError: The wrapper belongs to the parent process.
        """
        secret = _options.text("client_secret", client_secret)
        self._core.update_credentials(_options.optional_text("client_id", client_id), secret)

    def status(self) -> Status:
        """Where the log and the delivery stand now. Reads no network.

        Raises:
            ForkedProcessError: The wrapper belongs to the parent process.
        """
        return cast(Status, json.loads(self._core.status_json()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Shuts down and blocks until it is done; Ctrl-C ends the wait."""
        try:
            _blocking.shut_down(self._core)
        except Exception as error:
            keep(exc_val, error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Shuts down."""
        try:
            await self.shutdown()
        except Exception as error:
            keep(exc_val, error)

    def __repr__(self) -> str:
        names = ("endpoint", "table_name", "wal_dir")
        # One whose constructor failed has not all of them.
        told = [(name, getattr(self, f"_{name}", None)) for name in names]
        return _display.line(type(self).__name__, told, lambda: self._core.glance())

    def _repr_html_(self) -> str:
        """The status, for notebooks."""
        return _display.table(type(self).__name__, self.status)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ZerobusWrapper belongs to its process and cannot be pickled")


def keep(body_error: BaseException | None, error: Exception) -> None:
    """Raises the error of a shutdown, unless it would hide that of the ``with`` body."""
    if body_error is None:
        raise error
    body_error.add_note(f"and the shutdown failed: {error}")
