//! What a victim and the test that kills it agree on: its orders, its announcements, its rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::WrapperConfiguration;
use serde::{Deserialize, Serialize};

/// The table that victims write to.
pub const TABLE: &str = "chaos.default.events";
/// Its columns, as Delta DDL.
pub const COLUMNS: &str = "id BIGINT NOT NULL, content STRING NOT NULL";

/// What a victim is told to do, as JSON in its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Zerobus endpoint.
    pub endpoint: String,
    /// Where tokens come from.
    pub unity_catalog_url: String,
    /// Root of its log.
    pub wal_dir: std::path::PathBuf,
    /// The first row id that it may use; it counts up from there.
    pub first_id: i64,
    /// Concurrent senders.
    pub senders: usize,
    /// Rows per batch.
    pub batch_rows: i64,
    /// Size of a segment in bytes.
    pub segment_bytes: u64,
    /// Largest request in bytes.
    pub request_max_bytes: usize,
    /// Age at which a stream is replaced, in seconds.
    pub stream_max_age_secs: u64,
    /// Streams that deliver at the same time. More than one have small windows, or one would do.
    pub streams: usize,
    /// A quota in bytes at which it drops what waits longest; without one it has the default and waits.
    pub drop_at_bytes: Option<u64>,
    /// What it is to do besides, if each row is to be delivered exactly once.
    pub exactly_once: Option<ExactlyOnce>,
}

/// The window of each stream, where there are several.
pub const WINDOW_OF_SEVERAL: usize = 2;

/// The orders of a victim whose rows are to be delivered exactly once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExactlyOnce {
    /// Requests that may be in flight.
    pub max_inflight_requests: usize,
    /// Rows that the service refuses.
    pub bad_ids: Vec<i64>,
    /// The moment of its death, as its place among all of them, and how often it is to come; without one it lives until
    /// somebody else kills it.
    pub die_at: Option<(usize, u32)>,
}

/// What a replayer is told to do, as JSON in its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayOrders {
    /// Where the log is.
    pub root: std::path::PathBuf,
    /// Where the replay keeps its own.
    pub wal_dir: std::path::PathBuf,
    /// Zerobus endpoint.
    pub endpoint: String,
    /// Where tokens come from.
    pub unity_catalog_url: String,
    /// Whether each row is to be delivered exactly once.
    pub exactly_once: bool,
    /// Whether a replay that is done is done anew.
    pub again: bool,
    /// The moment of its death, as its place among those of a replay, and how often it is to come.
    pub die_at: Option<(usize, u32)>,
}

/// What a service is told to do, as JSON in its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceOrders {
    /// Where its tables are.
    pub data_dir: std::path::PathBuf,
    /// Its gRPC port.
    pub port: u16,
    /// Its HTTP port.
    pub http_port: u16,
    /// How long rows wait for others before they are committed together, in milliseconds.
    pub commit_interval_ms: u64,
    /// What it is to do before it says that it is ready.
    pub sql: Vec<String>,
    /// What goes wrong from then on.
    pub rules: Vec<serde_json::Value>,
}

/// What a victim says on its standard output, one JSON line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Announcement {
    /// The log is open.
    Open,
    /// It is about to send these rows.
    Intent {
        /// The first row id.
        first: i64,
        /// How many rows.
        rows: i64,
    },
    /// `send_batch` has returned for these rows: they are promised.
    Acknowledged {
        /// The first row id.
        first: i64,
        /// How many rows.
        rows: i64,
    },
}

/// The content of a row, which follows from its id, so that an altered row is known.
pub fn content(id: i64) -> String {
    format!("{:016x}-{}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64), "x".repeat((id % 97) as usize))
}

/// A wrapper's configuration against the emulator of a chaos test, which gives tokens to everybody.
pub fn configuration(endpoint: &str, unity_catalog_url: &str, wal_dir: &Path) -> WrapperConfiguration {
    let mut configuration = WrapperConfiguration::new(endpoint, TABLE);
    configuration.client_id = Some("victim".to_owned());
    configuration.client_secret = Some("canary-secret-of-the-victim".into());
    configuration.unity_catalog_url = Some(unity_catalog_url.to_owned());
    configuration.wal_dir = Some(wal_dir.to_owned());
    configuration.retry_base_delay = Duration::from_millis(10);
    configuration.retry_max_delay = Duration::from_millis(100);
    configuration
}

/// The batch of these rows. Those that are bad have no content, which the table does not take.
///
/// # Errors
///
/// None, unless Arrow refuses what it has always taken.
pub fn batch(first: i64, rows: i64, bad_ids: &[i64]) -> Result<RecordBatch, ArrowError> {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("content", DataType::Utf8, true),
    ]);
    let contents: StringArray =
        (first..first + rows).map(|id| (!bad_ids.contains(&id)).then(|| content(id))).collect();
    let ids = Int64Array::from_iter_values(first..first + rows);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(contents)])
}
