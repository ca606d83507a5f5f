//! What a victim and the test that kills it agree on: its orders, its announcements, its rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::WrapperConfiguration;
use arrow_zerobus_sdk_wrapper::config::{ConfigError, Sources};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The table that victims write to.
pub const TABLE: &str = "chaos.default.events";
/// Its columns, as Delta DDL.
pub const COLUMNS: &str = "id BIGINT NOT NULL, content STRING NOT NULL";

/// What a victim is told to do, as JSON in the first line of its standard input. The victims of the wheel take the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Settings of the wrapper, by the names of the registry; also those of the connection.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// The first row id that it may use; it counts up from there.
    pub first_id: i64,
    /// Tasks that send at the same time.
    pub producers: usize,
    /// The smallest and the largest number of rows of a batch.
    pub rows: (i64, i64),
    /// How many batches it sends in all; without it, it sends until it is ended.
    pub batches: Option<u64>,
    /// How long each producer waits between two batches, in milliseconds.
    pub pause_ms: f64,
    /// Every n-th batch has a row that the table does not take; 0 for none.
    pub bad_rows: u64,
    /// How large the text of such a row is; 0 for none.
    #[serde(default)]
    pub bad_text_bytes: usize,
    /// Rows that the table does not take, besides.
    #[serde(default)]
    pub bad_ids: Vec<i64>,
    /// Whether one batch in four is waited for until it is delivered, so that little waits.
    #[serde(default)]
    pub is_patient: bool,
    /// The moment of its death by name, and how often it is to come; without one it lives until somebody else kills it.
    pub die_at: Option<(String, u32)>,
    /// The name of a bug that it has.
    pub canary: Option<String>,
    /// What its choices follow from.
    pub seed: String,
}

impl Orders {
    /// Orders of a victim that sends to a service of these addresses until it is killed.
    pub fn new(endpoint: &str, unity_catalog_url: &str, wal_dir: &Path) -> Orders {
        let mut orders = Orders {
            settings: BTreeMap::new(),
            first_id: 0,
            producers: 1,
            rows: (1, 1),
            batches: None,
            pause_ms: 0.0,
            bad_rows: 0,
            bad_text_bytes: 0,
            bad_ids: Vec::new(),
            is_patient: false,
            die_at: None,
            canary: None,
            seed: String::new(),
        };
        orders.set("endpoint", endpoint);
        orders.set("unity_catalog_url", unity_catalog_url);
        orders.set("table_name", TABLE);
        orders.set("client_id", "victim");
        orders.set("client_secret", "canary-secret-of-the-victim");
        orders.set("wal_dir", wal_dir.to_string_lossy());
        orders.set("retry_base_delay_ms", 10);
        orders.set("retry_max_delay_ms", 100);
        orders
    }

    /// Sets one setting.
    pub fn set(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    /// The settings as a configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a setting that there is not, or a value that it does not take.
    pub fn configuration(&self) -> Result<WrapperConfiguration, ConfigError> {
        let given = self.settings.iter().filter(|(_, value)| !value.is_null());
        let sources = given.into_iter().try_fold(Sources::new(), |sources, (name, value)| match value {
            serde_json::Value::String(text) => sources.argument(name, text),
            other => sources.argument(name, &other.to_string()),
        });
        sources?.configuration()
    }
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

/// What a victim says on its standard output, one JSON line each; `chaos/announcements.py` explains them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Announcement {
    /// It runs, and knows its orders.
    Ready {
        /// Its anonymous memory.
        resident_bytes: u64,
    },
    /// It opens the log now.
    Opening,
    /// The log is open.
    Open {
        /// The writer directory.
        directory: String,
    },
    /// It is about to send these rows.
    Intent {
        /// The number of the batch in this life.
        batch: u64,
        /// Which of its producers.
        producer: usize,
        /// The first row id.
        first: i64,
        /// How many rows.
        rows: i64,
        /// SHA-256 of the rows as they should be.
        hash: String,
        /// Those that the table does not take.
        bad: Vec<i64>,
    },
    /// `send_batch` has returned for this batch: it is promised.
    Ack {
        /// The number of the batch in this life.
        batch: u64,
        /// Its LSN.
        lsn: Option<u64>,
        /// The writer directory.
        directory: String,
        /// Whether it was synced before the call returned.
        durable: bool,
    },
    /// `send_batch` has returned an error for this batch, which is not stored.
    Refused {
        /// The number of the batch in this life.
        batch: u64,
        /// The kind of error.
        error: String,
        /// Its stable name.
        code: String,
        /// Its text.
        message: String,
    },
    /// Nothing waits any more.
    Drained {
        /// How its log stands.
        statuses: Vec<serde_json::Value>,
    },
    /// It shuts down now.
    Closing,
    /// It has shut down.
    Closed,
    /// Opening or closing has failed.
    Failed {
        /// What failed.
        during: String,
        /// Its text.
        message: String,
    },
}

/// The bytes of a row that are hashed, as `chaos/rows.py` has them.
pub fn canonical(id: i64, text: &str) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// SHA-256 of consecutive rows as they should be, in hexadecimal.
pub fn digest(ids: std::ops::Range<i64>) -> String {
    let mut hashed = Sha256::new();
    ids.for_each(|id| hashed.update(canonical(id, &content(id))));
    hashed.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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

/// The batch of these rows. Those that are bad have this content, or none, which the table does not take.
///
/// # Errors
///
/// None, unless Arrow refuses what it has always taken.
pub fn batch(
    first: i64,
    rows: i64,
    bad_ids: &[i64],
    bad_content: Option<&str>,
) -> Result<RecordBatch, ArrowError> {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("content", DataType::Utf8, true),
    ]);
    let contents: StringArray = (first..first + rows)
        .map(|id| match bad_ids.contains(&id) {
            true => bad_content.map(str::to_owned),
            false => Some(content(id)),
        })
        .collect();
    let ids = Int64Array::from_iter_values(first..first + rows);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(contents)])
}
