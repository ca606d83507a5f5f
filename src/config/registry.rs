//! Which settings there are. Everything that knows settings by name goes by this table: environment, files, Python's
//! constructor and the page of reference. A new setting is a field of [`WrapperConfiguration`] and an entry here.

use super::setting::{Named, Place, SYNC_INTERVAL, Setting};
use super::{
    Compression, DeliveryGuarantee, LogExport, OnFull, OtlpProtocol, TransportKind, Validate, WaitFor,
};
use crate::convert::{NullList, TimestampNs};
use crate::wal::Durability;

/// A setting of which nothing special is to be said.
pub(super) const PLAIN: Setting = Setting {
    name: "",
    meaning: "",
    default_note: None,
    plain_variable: None,
    alternative: None,
    place: Place::SyncInterval,
};

/// Every setting. What is part of another one's value stands behind it.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "endpoint",
        meaning: "Zerobus endpoint; `https://` is added; `http://` for a local emulator",
        plain_variable: Some("ZEROBUS_ENDPOINT"),
        place: Place::RequiredText(|c| &mut c.endpoint),
        ..PLAIN
    },
    Setting {
        name: "table_name",
        meaning: "target table, `catalog.schema.table`",
        plain_variable: Some("ZEROBUS_TABLE_NAME"),
        place: Place::RequiredText(|c| &mut c.table_name),
        ..PLAIN
    },
    Setting {
        name: "client_id",
        meaning: "OAuth client id of the service principal",
        plain_variable: Some("ZEROBUS_CLIENT_ID"),
        place: Place::Text(|c| &mut c.client_id),
        ..PLAIN
    },
    Setting {
        name: "client_secret",
        meaning: "OAuth client secret; it is never shown, logged or stored",
        plain_variable: Some("ZEROBUS_CLIENT_SECRET"),
        alternative: Some("client_secret_file"),
        place: Place::Secret(|c| &mut c.client_secret),
        ..PLAIN
    },
    Setting {
        name: "client_secret_file",
        meaning: "a file with the secret, instead of `client_secret`, such as a container gets; read whenever a token is \
                  fetched, so it can be rotated there",
        alternative: Some("client_secret"),
        place: Place::Path(|c| &mut c.client_secret_file),
        ..PLAIN
    },
    Setting {
        name: "unity_catalog_url",
        meaning: "URL of the workspace, where tokens and the table's columns come from",
        default_note: Some("the endpoint, if that is a workspace"),
        plain_variable: Some("UNITY_CATALOG_URL"),
        place: Place::Text(|c| &mut c.unity_catalog_url),
        ..PLAIN
    },
    Setting {
        name: "ca_certificate_file",
        meaning: "PEM file with the CAs that are trusted besides those of the system",
        place: Place::Path(|c| &mut c.ca_certificate_file),
        ..PLAIN
    },
    Setting {
        name: "client_certificate_file",
        meaning: "PEM file with the certificate to show where one is asked for; with `client_key_file`",
        place: Place::Path(|c| &mut c.client_certificate_file),
        ..PLAIN
    },
    Setting {
        name: "client_key_file",
        meaning: "PEM file with the key of that certificate, not encrypted",
        place: Place::Path(|c| &mut c.client_key_file),
        ..PLAIN
    },
    Setting {
        name: "proxy",
        meaning: "URL of an HTTP proxy for everything, `http://host:port`",
        default_note: Some("that of the environment, `https_proxy` and its relatives"),
        place: Place::Text(|c| &mut c.proxy),
        ..PLAIN
    },
    Setting {
        name: "wal_dir",
        meaning: "root of all logs; each live wrapper has one of its own",
        default_note: Some("`$XDG_STATE_HOME/arrow-zerobus`"),
        place: Place::Path(|c| &mut c.wal_dir),
        ..PLAIN
    },
    Setting {
        name: "exclusive",
        meaning: "refuse to start while another wrapper of this table and `wal_dir` lives",
        place: Place::Flag(|c| &mut c.exclusive),
        ..PLAIN
    },
    Setting {
        name: "durability",
        meaning: "`sync`: synced before `send_batch` returns; `interval`: every `sync_interval_ms`; `os`: by the \
                  operating system",
        place: Place::Choice(&Named {
            field: |c| &mut c.durability,
            named: &[
                ("sync", Durability::Sync),
                ("interval", Durability::Interval(SYNC_INTERVAL)),
                ("os", Durability::Os),
            ],
        }),
        ..PLAIN
    },
    Setting {
        name: "sync_interval_ms",
        meaning: "for `durability = \"interval\"`",
        place: Place::SyncInterval,
        ..PLAIN
    },
    Setting {
        name: "wait_for",
        meaning: "when `send_batch` returns: `stored` or `delivered`",
        place: Place::Choice(&Named {
            field: |c| &mut c.wait_for,
            named: &[("stored", WaitFor::Stored), ("delivered", WaitFor::Delivered)],
        }),
        ..PLAIN
    },
    Setting {
        name: "validate",
        meaning: "`strict`: `send_batch` refuses a schema that can never fit the table, as far as that is known; `off`: \
                  everything is stored, and what does not fit waits for `schema_grace_secs`",
        place: Place::Choice(&Named {
            field: |c| &mut c.validate,
            named: &[("strict", Validate::Strict), ("off", Validate::Off)],
        }),
        ..PLAIN
    },
    Setting {
        name: "timestamp_ns",
        meaning: "nanoseconds below the service's microsecond: `floor`: floored and counted; `error`: the row goes into \
                  quarantine",
        place: Place::Choice(&Named {
            field: |c| &mut c.timestamp_ns,
            named: &[("floor", TimestampNs::Floor), ("error", TimestampNs::Error)],
        }),
        ..PLAIN
    },
    Setting {
        name: "null_list",
        meaning: "a null list or map, which a record cannot tell from an empty one: `empty`: sent as empty and counted; \
                  `error`: the row goes into quarantine",
        place: Place::Choice(&Named {
            field: |c| &mut c.null_list,
            named: &[("empty", NullList::Empty), ("error", NullList::Error)],
        }),
        ..PLAIN
    },
    Setting {
        name: "segment_bytes",
        meaning: "size of one file of the log; a batch must fit into one",
        place: Place::Bytes(|c| &mut c.segment_bytes),
        ..PLAIN
    },
    Setting {
        name: "wal_max_bytes",
        meaning: "quota of the log",
        place: Place::Bytes(|c| &mut c.wal_max_bytes),
        ..PLAIN
    },
    Setting {
        name: "wal_min_free_bytes",
        meaning: "left free on the disk of the log; set it lower on a small one",
        place: Place::Bytes(|c| &mut c.wal_min_free_bytes),
        ..PLAIN
    },
    Setting {
        name: "on_full",
        meaning: "at one of these bounds: `block`: `send_batch` waits, in order; `reject`: it raises `BufferFullError`; \
                  `drop_oldest`: what waits longest is dropped, counted and reported",
        place: Place::Choice(&Named {
            field: |c| &mut c.on_full,
            named: &[
                (OnFull::Block.as_str(), OnFull::Block),
                (OnFull::Reject.as_str(), OnFull::Reject),
                (OnFull::DropOldest.as_str(), OnFull::DropOldest),
            ],
        }),
        ..PLAIN
    },
    Setting {
        name: "block_timeout_secs",
        meaning: "for `on_full = \"block\"`: after this wait `BufferFullError`; `none` waits for ever",
        default_note: Some("`none`"),
        place: Place::SecondsOrNone(|c| &mut c.block_timeout),
        ..PLAIN
    },
    Setting {
        name: "retain_delivered_secs",
        meaning: "how old delivered segments that are kept for replay become; 0 sets no such limit",
        place: Place::Seconds(|c| &mut c.retain_delivered),
        ..PLAIN
    },
    Setting {
        name: "retain_delivered_bytes",
        meaning: "how much of them is kept at most; 0 sets no such limit, and both 0 keep nothing. They count for the quota and go \
                  first when it is reached",
        place: Place::Bytes(|c| &mut c.retain_delivered_bytes),
        ..PLAIN
    },
    Setting {
        name: "schema_grace_secs",
        meaning: "how long a schema that the table refuses is waited for before its frames go into quarantine",
        place: Place::Seconds(|c| &mut c.schema_grace),
        ..PLAIN
    },
    Setting {
        name: "quarantine_max_bytes",
        meaning: "quota of the quarantine; what does not fit stays in the log, and what is behind it too. 0: nothing goes there",
        place: Place::Bytes(|c| &mut c.quarantine_max_bytes),
        ..PLAIN
    },
    Setting {
        name: "transport",
        meaning: "as what the rows travel: `protobuf` or `arrow_flight` ([transports.md](transports.md))",
        place: Place::Choice(&Named {
            field: |c| &mut c.transport,
            named: &[
                (TransportKind::Protobuf.as_str(), TransportKind::Protobuf),
                (TransportKind::ArrowFlight.as_str(), TransportKind::ArrowFlight),
            ],
        }),
        ..PLAIN
    },
    Setting {
        name: "delivery",
        meaning: "how often a row is in the table when something failed on the way: `at_least_once` or `exactly_once` \
                  ([exactly-once.md](exactly-once.md))",
        place: Place::Choice(&Named {
            field: |c| &mut c.delivery,
            named: &[
                (DeliveryGuarantee::AtLeastOnce.as_str(), DeliveryGuarantee::AtLeastOnce),
                (DeliveryGuarantee::ExactlyOnce.as_str(), DeliveryGuarantee::ExactlyOnce),
            ],
        }),
        ..PLAIN
    },
    Setting {
        name: "compression",
        meaning: "of Arrow batches on the way: `none`, `lz4` or `zstd`; only with `transport = \"arrow_flight\"`",
        default_note: Some("`zstd`, with that transport"),
        place: Place::Choice(&Named {
            field: |c| &mut c.compression,
            named: &[
                (Compression::None.as_str(), Some(Compression::None)),
                (Compression::Lz4.as_str(), Some(Compression::Lz4)),
                (Compression::Zstd.as_str(), Some(Compression::Zstd)),
            ],
        }),
        ..PLAIN
    },
    Setting {
        name: "request_max_bytes",
        meaning: "largest request to the service; Arrow batches are at most 2 MiB",
        place: Place::BytesInMemory(|c| &mut c.request_max_bytes),
        ..PLAIN
    },
    Setting {
        name: "max_inflight_requests",
        meaning: "requests sent and not acknowledged; memory and duplicates grow with it",
        place: Place::Count(|c| &mut c.max_inflight_requests),
        ..PLAIN
    },
    Setting {
        name: "streams",
        meaning: "streams that deliver at the same time; more than one gives up the order of rows",
        place: Place::Count(|c| &mut c.streams),
        ..PLAIN
    },
    Setting {
        name: "stream_max_age_secs",
        meaning: "a stream is replaced at this age, before the service ends it",
        place: Place::Seconds(|c| &mut c.stream_max_age),
        ..PLAIN
    },
    Setting {
        name: "retry_max_attempts",
        meaning: "failed attempts in a row after which `flush` gives up waiting; delivery never does",
        place: Place::Attempts(|c| &mut c.retry_max_attempts),
        ..PLAIN
    },
    Setting {
        name: "retry_base_delay_ms",
        meaning: "shortest upper bound of the random wait between two attempts",
        place: Place::Millis(|c| &mut c.retry_base_delay),
        ..PLAIN
    },
    Setting {
        name: "retry_max_delay_ms",
        meaning: "longest upper bound of it; also how often a lane that is parked probes",
        place: Place::Millis(|c| &mut c.retry_max_delay),
        ..PLAIN
    },
    Setting {
        name: "shutdown_timeout_secs",
        meaning: "how long `shutdown` goes on delivering",
        place: Place::Seconds(|c| &mut c.shutdown_timeout),
        ..PLAIN
    },
    Setting {
        name: "debug_enabled",
        meaning: "write each batch that was stored into debug files below `debug_output_dir` too \
                  ([debug-files.md](debug-files.md))",
        place: Place::Flag(|c| &mut c.debug_enabled),
        ..PLAIN
    },
    Setting {
        name: "debug_output_dir",
        meaning: "where the debug files go; needed for `debug_enabled`",
        place: Place::Path(|c| &mut c.debug_output_dir),
        ..PLAIN
    },
    Setting {
        name: "debug_flush_interval_secs",
        meaning: "how old a batch is, at most, before it stands in the debug files",
        place: Place::Seconds(|c| &mut c.debug_flush_interval),
        ..PLAIN
    },
    Setting {
        name: "debug_max_file_size",
        meaning: "a debug file that would become larger is rotated; `none` sets no limit",
        default_note: Some("`none`"),
        place: Place::BytesOrNone(|c| &mut c.debug_max_file_size),
        ..PLAIN
    },
    Setting {
        name: "debug_max_files_retained",
        meaning: "how many rotated debug files of each kind are kept of this table",
        place: Place::Count(|c| &mut c.debug_max_files_retained),
        ..PLAIN
    },
    Setting {
        name: "debug_arrow_enabled",
        meaning: "write the debug file of Arrow batches",
        place: Place::Flag(|c| &mut c.debug_arrow_enabled),
        ..PLAIN
    },
    Setting {
        name: "debug_protobuf_enabled",
        meaning: "write the debug file of protobuf records",
        place: Place::Flag(|c| &mut c.debug_protobuf_enabled),
        ..PLAIN
    },
    Setting {
        name: "writer_disabled",
        meaning: "deliver nothing: store, write the debug files, and touch no network ([debug-files.md](debug-files.md))",
        place: Place::Flag(|c| &mut c.writer_disabled),
        ..PLAIN
    },
    Setting {
        name: "observability_enabled",
        meaning: "export metrics, spans and log records over OTLP ([operations/observability.md](operations/observability.md))",
        place: Place::Flag(|c| &mut c.observability_enabled),
        ..PLAIN
    },
    Setting {
        name: "observability_endpoint",
        meaning: "where to, `http://host[:port]`",
        default_note: Some("`OTEL_EXPORTER_OTLP_ENDPOINT`, else the providers of the program"),
        place: Place::Text(|c| &mut c.observability_endpoint),
        ..PLAIN
    },
    Setting {
        name: "observability_protocol",
        meaning: "how they travel: `grpc` or `http/protobuf`",
        default_note: Some("`OTEL_EXPORTER_OTLP_PROTOCOL`, else `grpc`"),
        place: Place::Choice(&Named {
            field: |c| &mut c.observability_protocol,
            named: &[
                (OtlpProtocol::Grpc.as_str(), Some(OtlpProtocol::Grpc)),
                (OtlpProtocol::Http.as_str(), Some(OtlpProtocol::Http)),
            ],
        }),
        ..PLAIN
    },
    Setting {
        name: "observability_headers",
        meaning: "headers of each export, `name=value` with commas between them; never shown or logged",
        default_note: Some("`OTEL_EXPORTER_OTLP_HEADERS`"),
        place: Place::Secret(|c| &mut c.observability_headers),
        ..PLAIN
    },
    Setting {
        name: "observability_service_name",
        meaning: "`service.name` of what is exported",
        default_note: Some("`OTEL_SERVICE_NAME`, else `arrow-zerobus`"),
        place: Place::Text(|c| &mut c.observability_service_name),
        ..PLAIN
    },
    Setting {
        name: "observability_resource_attributes",
        meaning: "more attributes of the resource, `name=value` with commas between them, beside those of \
                  `OTEL_RESOURCE_ATTRIBUTES`",
        place: Place::Text(|c| &mut c.observability_resource_attributes),
        ..PLAIN
    },
    Setting {
        name: "observability_logs",
        meaning: "of which level on what is logged is exported, if there is an endpoint: `off`, `error`, `warning`, `info` or `debug`",
        place: Place::Choice(&Named { field: |c| &mut c.observability_logs, named: &LogExport::NAMED }),
        ..PLAIN
    },
    Setting {
        name: "observability_interval_secs",
        meaning: "how often metrics are exported, and spans if it is less than 5 s",
        place: Place::Seconds(|c| &mut c.observability_interval),
        ..PLAIN
    },
    Setting {
        name: "metrics_port",
        meaning: "serve `/metrics` for Prometheus and `/healthz` on this port; wrappers of one process share it",
        place: Place::Port(|c| &mut c.metrics_port),
        ..PLAIN
    },
    Setting {
        name: "metrics_address",
        meaning: "IP address that the port is opened on",
        default_note: Some("`127.0.0.1`"),
        place: Place::Text(|c| &mut c.metrics_address),
        ..PLAIN
    },
];

/// The setting with this name.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}
