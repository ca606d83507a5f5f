//! What the ledger of a log says is settled, sent and known.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::InspectError;
use crate::io::Env;
use crate::ledger::{self, Bent, DroppedRange, Quarantined, RecordedStream, Settled};
use crate::types::{Epoch, Lsn};
use crate::wal::LogView;

/// The ledger of one log, as its last checkpoint left it. Beside a live owner that is a moment ago.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerReport {
    /// The writer directory.
    pub directory: PathBuf,
    /// The log that it is asked about.
    pub epoch: Epoch,
    /// Whether it says something of this log; without that, everything here is zero.
    pub is_known: bool,
    /// Every frame up to here is settled, and so many rows of the one behind it.
    pub settled: Settled,
    /// What is settled above that.
    pub ranges: Vec<SettledStretch>,
    /// Frames delivered since the log began.
    pub delivered_frames: u64,
    /// Rows delivered since the log began.
    pub delivered_rows: u64,
    /// Frames that damage took.
    pub damaged_frames: u64,
    /// Frames dropped because the log was full.
    pub dropped_frames: u64,
    /// Rows dropped because the log was full.
    pub dropped_rows: u64,
    /// Which; the oldest of many stretches are told as one.
    pub dropped: Vec<DroppedRange>,
    /// What was refused for good.
    pub quarantined: Quarantined,
    /// Values that were sent as the nearest that the service can hold.
    pub bent: Bent,
    /// Rows that were sent again on a persistent stream because nobody could say what had become of them.
    pub doubtful_rows: u64,
    /// The persistent stream in use, with `delivery = "exactly_once"`.
    pub stream: Option<StreamReport>,
    /// Why what is recorded of persistent streams cannot be read.
    pub streams_failure: Option<String>,
    /// What is known of the table's columns.
    pub table: Option<TableReport>,
    /// Ledgers that could not be read and were moved aside.
    pub set_aside: Vec<PathBuf>,
}

/// A stretch of the log in which everything is settled, above the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SettledStretch {
    /// It begins behind this.
    pub start: Settled,
    /// It ends here.
    pub end: Settled,
    /// Frames whose last row is in it.
    pub frames: u64,
    /// Its rows.
    pub rows: u64,
}

/// A persistent stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// The name that the service has for it.
    pub id: String,
    /// The first stream offset that is not settled.
    pub next_offset: i64,
    /// Requests that are recorded and not settled.
    pub requests: u64,
    /// Their rows.
    pub rows: u64,
    /// The last frame that they reach into; none without requests.
    pub last_lsn: Option<Lsn>,
    /// Stream offsets that stand for something that is not sent any more; then the stream cannot go on.
    pub void_offsets: u64,
    /// Bytes of the descriptor that its records are made after.
    pub descriptor_bytes: u64,
}

/// The columns of a table, as the catalog told them last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table.
    pub name: String,
    /// When they were read.
    pub read_unix_micros: i64,
    /// The columns, in the order of their numbers.
    pub columns: Vec<TableColumnReport>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableColumnReport {
    /// Its name.
    pub name: String,
    /// Its type, as in `CREATE TABLE`.
    #[serde(rename = "type")]
    pub delta_type: String,
    /// The number of its protobuf field.
    pub number: u32,
    /// Whether it may be null.
    pub nullable: bool,
}

impl TableReport {
    pub(super) fn of(cached: &ledger::CachedTable) -> TableReport {
        let columns = cached.schema.columns.iter().map(|column| TableColumnReport {
            name: column.name.clone(),
            delta_type: column.delta_type.to_string(),
            number: column.number,
            nullable: column.nullable,
        });
        TableReport {
            name: cached.table.to_string(),
            read_unix_micros: cached.read_unix_micros,
            columns: columns.collect(),
        }
    }
}

/// Reads the ledger of the log in a writer directory, from a copy.
///
/// # Errors
///
/// [`InspectError`] if the log or its ledger cannot be read.
pub fn inspect_ledger(directory: &Path) -> Result<LedgerReport, InspectError> {
    let env = Env::os();
    let view = LogView::read(&env, directory).map_err(InspectError::log(directory))?;
    let contents = ledger::peek(directory, view.epoch()).map_err(InspectError::ledger(directory))?;
    let is_known = contents.record.is_some();
    let (record, ranges) = contents.record.unwrap_or_default();
    let (streams, streams_failure) = match contents.streams.read {
        Ok(streams) => (streams, None),
        Err(reason) => (Default::default(), Some(reason)),
    };
    let ranges = ranges.iter().map(|range| SettledStretch {
        start: range.start,
        end: range.end,
        frames: range.frames,
        rows: range.rows,
    });
    Ok(LedgerReport {
        directory: directory.to_owned(),
        epoch: view.epoch(),
        is_known,
        settled: record.settled,
        ranges: ranges.collect(),
        delivered_frames: record.delivered_frames,
        delivered_rows: record.delivered_rows,
        damaged_frames: record.damaged_frames,
        dropped_frames: record.dropped.frames,
        dropped_rows: record.dropped.rows,
        dropped: record.dropped.ranges().to_vec(),
        quarantined: record.quarantined,
        bent: record.bent,
        doubtful_rows: streams.doubtful_rows,
        stream: streams.current.as_ref().map(stream_of),
        streams_failure,
        table: contents.table.as_ref().map(TableReport::of),
        set_aside: set_aside(&env, directory).map_err(InspectError::file(directory))?,
    })
}

fn stream_of(stream: &RecordedStream) -> StreamReport {
    StreamReport {
        id: stream.id.clone(),
        next_offset: stream.next.get(),
        requests: stream.requests.len() as u64,
        rows: stream.tail_rows(),
        last_lsn: (!stream.requests.is_empty()).then(|| stream.highest()),
        void_offsets: stream.void + stream.dropped,
        descriptor_bytes: stream.descriptor.len() as u64,
    }
}

/// The ledgers of a log that could not be read and were moved aside, in the order of their names.
pub(in crate::admin) fn set_aside(env: &Env, directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let names = env.storage.list(directory)?;
    let is_one = |name: &std::ffi::OsString| {
        name.to_str().is_some_and(|name| name.starts_with(&format!("{}.set-aside-", ledger::DIRECTORY)))
    };
    let mut found: Vec<PathBuf> = names.into_iter().filter(is_one).map(|name| directory.join(name)).collect();
    found.sort();
    Ok(found)
}
