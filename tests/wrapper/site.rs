//! One place where a test happens: a directory with a log and the data of an emulator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::emulator::{Credentials, Emulator, EmulatorOptions};
use arrow_zerobus_sdk_wrapper::{Status, WrapperConfiguration, ZerobusWrapper};

use crate::support::read_table;

pub(crate) const TABLE: &str = "main.default.events";
const COLUMNS: &str = "id BIGINT, name STRING";
const CLIENT_ID: &str = "edge-box";
const CLIENT_SECRET: &str = "a-secret-that-nobody-may-see";

pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    ports: (u16, u16),
}

impl Site {
    /// A site whose service is down; its ports are known and free.
    pub(crate) fn new() -> Site {
        Site { directory: tempfile::tempdir().unwrap(), ports: (free_port(), free_port()) }
    }

    pub(crate) fn serve(&self) -> Emulator {
        self.serve_with(|_| {})
    }

    pub(crate) fn serve_with(&self, change: impl FnOnce(&mut EmulatorOptions)) -> Emulator {
        let mut options = EmulatorOptions::new(self.directory.path().join("data"));
        (options.port, options.http_port) = self.ports;
        options.commit_interval = Duration::from_millis(20);
        options.tables.push((TABLE.to_owned(), COLUMNS.to_owned()));
        options.credentials =
            Some(Credentials { client_id: CLIENT_ID.to_owned(), client_secret: CLIENT_SECRET.into() });
        change(&mut options);
        Emulator::start(options).unwrap()
    }

    pub(crate) fn configuration(&self) -> WrapperConfiguration {
        let mut configuration =
            WrapperConfiguration::new(format!("http://127.0.0.1:{}", self.ports.0), TABLE);
        configuration.client_id = Some(CLIENT_ID.to_owned());
        configuration.client_secret = Some(CLIENT_SECRET.into());
        configuration.unity_catalog_url = Some(format!("http://127.0.0.1:{}", self.ports.1));
        configuration.wal_dir = Some(self.wal_dir());
        configuration.retry_base_delay = Duration::from_millis(20);
        configuration.retry_max_delay = Duration::from_millis(200);
        configuration.shutdown_timeout = Duration::from_secs(20);
        configuration
    }

    pub(crate) fn open(&self) -> ZerobusWrapper {
        self.open_with(|_| {})
    }

    pub(crate) fn open_with(&self, change: impl FnOnce(&mut WrapperConfiguration)) -> ZerobusWrapper {
        let mut configuration = self.configuration();
        change(&mut configuration);
        ZerobusWrapper::open(configuration).unwrap()
    }

    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.directory.path().join("wal")
    }

    pub(crate) fn writer_directory(&self) -> PathBuf {
        self.wal_dir().join(TABLE).join("writer-001")
    }

    pub(crate) fn table_path(&self, table: &str) -> PathBuf {
        self.directory.path().join("data").join(table.replace('.', "/"))
    }

    /// How often each id landed.
    pub(crate) fn landed(&self) -> BTreeMap<i64, usize> {
        self.landed_in(TABLE)
    }

    pub(crate) fn landed_in(&self, table: &str) -> BTreeMap<i64, usize> {
        let rows = read_table(&self.table_path(table));
        let mut landed = BTreeMap::new();
        if let Some(ids) = rows.column_by_name("id") {
            for id in ids.as_primitive::<Int64Type>().values() {
                *landed.entry(*id).or_default() += 1;
            }
        }
        landed
    }
}

/// A port that nothing listens on and that no outgoing connection is given: those come from 32768 on.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (number % 12_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A batch of these ids, each with a name.
pub(crate) fn batch(ids: std::ops::Range<i64>) -> RecordBatch {
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
    let names: StringArray = ids.clone().map(|id| Some(format!("row {id}"))).collect();
    let ids = Int64Array::from_iter_values(ids);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

/// Every id once.
pub(crate) fn once(ids: std::ops::Range<i64>) -> BTreeMap<i64, usize> {
    ids.map(|id| (id, 1)).collect()
}

/// Waits until the status is as wished, or fails with the last one.
pub(crate) async fn wait_until(
    wrapper: &ZerobusWrapper,
    what: &str,
    is_so: impl Fn(&Status) -> bool,
) -> Status {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = wrapper.status();
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what} did not come: {status:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The bytes of all files in and below a directory that a pattern of bytes occurs in.
pub(crate) fn files_with(directory: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

/// [I6] What was stored is delivered, in quarantine, dropped or waits, in rows and in frames.
pub(crate) fn assert_conserved(status: &Status) {
    for counts in [status.rows, status.frames] {
        let found = counts.delivered + counts.quarantined + counts.dropped + counts.waiting;
        assert_eq!(counts.stored, found, "{status:#?}");
    }
}

pub(crate) fn secret() -> &'static str {
    CLIENT_SECRET
}
