//! Which metrics there are: name, kind, unit, attributes and meaning of every one. Both exporters go by this table, the page
//! `docs/operations/metrics.md` is made from it, and dashboards and alerts are checked against it.
//!
//! Names and units follow OpenTelemetry: units are UCUM codes, names have none. Every attribute has few values.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A count that only grows while the log lives, across restarts of the program.
    Counter,
    /// A quantity that can be added up over several logs.
    UpDownCounter,
    /// A value that cannot.
    Gauge,
    /// How often a value was in which range.
    Histogram,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name in OpenTelemetry.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// A UCUM code; what stands in braces says what is counted.
    pub unit: &'static str,
    /// Attributes beside [`TABLE`] and [`WRITER`].
    pub attributes: &'static [&'static str],
    /// What it means.
    pub description: &'static str,
    /// Upper bounds of the buckets of a histogram.
    pub bounds: &'static [f64],
}

/// The name of the meter.
pub const SCOPE: &str = "arrow_zerobus_sdk_wrapper";

/// Attribute of every metric: the target table.
pub const TABLE: &str = "zerobus.table";
/// Attribute of every metric: the writer directory, `writer-001` and so on.
pub const WRITER: &str = "zerobus.writer";
/// Attribute: what the lane is doing, one of the states of `status`.
pub const STATE: &str = "zerobus.lane.state";
/// Attribute: `transient`, `blocked` or `poison`.
pub const ERROR_CLASS: &str = "zerobus.error.class";

/// Attribute of every span: rows of the batch, or of the request.
pub const ROWS: &str = "zerobus.rows";
/// Attribute of every span: the first frame, once it has a number.
pub const LSN_FIRST: &str = "zerobus.lsn.first";
/// Attribute of every span: the last frame.
pub const LSN_LAST: &str = "zerobus.lsn.last";
/// Attribute of every span: bytes of the frame, or of the request.
pub const SIZE: &str = "zerobus.size";
/// Attribute of every span: which attempt of a request in a row it was, or how many a sender has waited for.
pub const ATTEMPT: &str = "zerobus.attempt";
/// Attribute of every span: what became of the batch or the request.
pub const OUTCOME: &str = "zerobus.outcome";
/// Attribute of a span: frames with a trace that there was no link left for.
pub const LINKS_LEFT_OUT: &str = "zerobus.links.left_out";
/// Attribute of a span that failed: the code of the error.
pub const ERROR_TYPE: &str = "error.type";
/// Attributes of every span, as OpenTelemetry has them for messages.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// `send` or `process`.
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
/// `send` or `process`.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The target table.
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";

/// 100 µs to 10 s: from a sync of a good disk to one that hangs.
const STORING_SECS: &[f64] =
    &[0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// 5 ms to 60 s, after which a stream is given up.
const DELIVERY_SECS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const GROUP_FRAMES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $ident:ident = $name:literal $kind:ident $unit:literal $attributes:expr, $bounds:expr;)*) => {
        $(
            $(#[doc = $doc])*
            pub static $ident: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                unit: $unit,
                attributes: &$attributes,
                description: concat!($($doc),*).trim_ascii(),
                bounds: $bounds,
            };
        )*
        /// Every metric.
        pub static METRICS: &[&Metric] = &[$(&$ident),*];
    };
}

metrics! {
    /// Rows stored since the log began; at rest the sum of delivered, quarantined, dropped and waiting ones
    ROWS_STORED = "zerobus.rows.stored" Counter "{row}" [], &[];
    /// Rows that the service has acknowledged, since the log began
    ROWS_DELIVERED = "zerobus.rows.delivered" Counter "{row}" [], &[];
    /// Rows put into quarantine since the log began
    ROWS_QUARANTINED = "zerobus.rows.quarantined" Counter "{row}" [], &[];
    /// Rows dropped by on_full="drop_oldest" since the log began
    ROWS_DROPPED = "zerobus.rows.dropped" Counter "{row}" [], &[];
    /// Rows that wait for delivery
    ROWS_WAITING = "zerobus.rows.waiting" UpDownCounter "{row}" [], &[];
    /// Frames stored since the log began; at rest the sum of delivered, quarantined, dropped and waiting ones
    FRAMES_STORED = "zerobus.frames.stored" Counter "{frame}" [], &[];
    /// Frames delivered since the log began, as a whole or in part
    FRAMES_DELIVERED = "zerobus.frames.delivered" Counter "{frame}" [], &[];
    /// Frames of which no row was delivered and that are in quarantine, since the log began
    FRAMES_QUARANTINED = "zerobus.frames.quarantined" Counter "{frame}" [], &[];
    /// Frames dropped by on_full="drop_oldest" since the log began
    FRAMES_DROPPED = "zerobus.frames.dropped" Counter "{frame}" [], &[];
    /// Frames that wait for delivery
    FRAMES_WAITING = "zerobus.frames.waiting" UpDownCounter "{frame}" [], &[];
    /// Frames that the disk damaged and that were stepped over
    FRAMES_DAMAGED = "zerobus.frames.damaged" Counter "{frame}" [], &[];
    /// Rows that were sent and not acknowledged when a stream failed and so are sent again, since the wrapper was opened: at most so many are in the table twice
    ROWS_RESENT = "zerobus.rows.resent" Counter "{row}" [], &[];
    /// With delivery="exactly_once": rows of which nobody could say what had become of them and that were sent again, since the log began
    ROWS_DOUBTFUL = "zerobus.rows.doubtful" Counter "{row}" [], &[];
    /// Timestamps among the delivered rows that lost nanoseconds
    TIMESTAMPS_FLOORED = "zerobus.timestamps.floored" Counter "{timestamp}" [], &[];
    /// Null lists and maps among the delivered rows that became empty ones
    LISTS_EMPTIED = "zerobus.lists.emptied" Counter "{list}" [], &[];
    /// Size of the log on the disk
    LOG_SIZE = "zerobus.log.size" UpDownCounter "By" [], &[];
    /// Size of the frames that wait
    LOG_WAITING_SIZE = "zerobus.log.waiting.size" UpDownCounter "By" [], &[];
    /// Size of the segments in which every frame is settled: kept for replay, or not freed yet
    LOG_RETAINED_SIZE = "zerobus.log.retained.size" UpDownCounter "By" [], &[];
    /// Quota of the log, wal_max_bytes
    LOG_LIMIT = "zerobus.log.limit" UpDownCounter "By" [], &[];
    /// What is free on the file system of the log
    LOG_FREE = "zerobus.log.file_system.free" Gauge "By" [], &[];
    /// 1 while the log is full, else 0
    LOG_FULL = "zerobus.log.full" Gauge "1" [], &[];
    /// 1 once the log refuses appends after a failed sync, else 0
    LOG_POISONED = "zerobus.log.poisoned" Gauge "1" [], &[];
    /// Age of the oldest frame that waits; 0 if none does
    OLDEST_WAITING = "zerobus.log.oldest_waiting.age" Gauge "s" [], &[];
    /// In how many seconds the log is full at the pace of the last minute; not there if it does not fill, or that is not known
    TIME_UNTIL_FULL = "zerobus.log.time_until_full" Gauge "s" [], &[];
    /// In how many seconds nothing waits any more at the pace of the last minute; not there if what waits does not become less, or that is not known
    TIME_UNTIL_DRAINED = "zerobus.log.time_until_drained" Gauge "s" [], &[];
    /// Files in quarantine
    QUARANTINE_FILES = "zerobus.quarantine.files" UpDownCounter "{file}" [], &[];
    /// Size of the quarantine
    QUARANTINE_SIZE = "zerobus.quarantine.size" UpDownCounter "By" [], &[];
    /// Quota of the quarantine, quarantine_max_bytes
    QUARANTINE_LIMIT = "zerobus.quarantine.limit" UpDownCounter "By" [], &[];
    /// 1 for the state that the lane is in, 0 for every other one
    LANE_STATE = "zerobus.lane.state" Gauge "1" [STATE], &[];
    /// Streams opened since the wrapper was opened
    STREAMS_OPENED = "zerobus.streams.opened" Counter "{stream}" [], &[];
    /// Requests handed to a stream since the wrapper was opened
    REQUESTS_SENT = "zerobus.requests.sent" Counter "{request}" [], &[];
    /// Requests acknowledged since the wrapper was opened
    REQUESTS_ACKNOWLEDGED = "zerobus.requests.acknowledged" Counter "{request}" [], &[];
    /// Attempts that failed since the wrapper was opened; each is followed by a retry
    ATTEMPTS_FAILED = "zerobus.attempts.failed" Counter "{attempt}" [ERROR_CLASS], &[];
    /// Attempts that failed since the last acknowledgement
    FAILURES_IN_A_ROW = "zerobus.lane.failures_in_a_row" Gauge "{attempt}" [], &[];
    /// Rows delivered for owners that are gone, since the wrapper was opened
    ADOPTED_ROWS = "zerobus.adoption.rows.delivered" Counter "{row}" [], &[];
    /// Logs of owners that are gone which were drained to the end, since the wrapper was opened
    ADOPTED_LOGS = "zerobus.adoption.logs.drained" Counter "{log}" [], &[];
    /// Logs of owners that are gone which are left alone; status says why
    ADOPTION_LEFT = "zerobus.adoption.logs.left" UpDownCounter "{log}" [], &[];
    /// Spans that no receiver has got, because it failed or was too slow, since the wrapper was opened
    SPANS_LOST = "zerobus.spans.lost" Counter "{span}" [], &[];
    /// Log records of this process that no receiver has got, because it failed or was too slow; logs that are exported to one place have one count
    LOG_RECORDS_LOST = "zerobus.log_records.lost" Counter "{record}" [], &[];
    /// How long the log took to open
    RECOVERY_DURATION = "zerobus.recovery.duration" Gauge "s" [], &[];
    /// Frames that were in the log when it was opened
    RECOVERY_FRAMES = "zerobus.recovery.frames" Gauge "{frame}" [], &[];
    /// Bytes of appends that were never promised, found when the log was opened
    RECOVERY_TORN = "zerobus.recovery.torn.size" Gauge "By" [], &[];
    /// What was damaged when the log was opened; status names it
    RECOVERY_DAMAGE = "zerobus.recovery.damage" Gauge "{damage}" [], &[];
    /// From the call of send_batch until the batch is stored, the wait for room in the log included
    APPEND_DURATION = "zerobus.append.duration" Histogram "s" [], STORING_SECS;
    /// One write and sync of a group of frames
    SYNC_DURATION = "zerobus.sync.duration" Histogram "s" [], STORING_SECS;
    /// Frames that one sync made durable
    SYNC_FRAMES = "zerobus.sync.frames" Histogram "{frame}" [], GROUP_FRAMES;
    /// From handing a request to the stream until its acknowledgement
    ACKNOWLEDGEMENT_DURATION = "zerobus.acknowledgement.duration" Histogram "s" [], DELIVERY_SECS;
}
