//! How a log stands, whether its owner lives or not.

use std::path::{Path, PathBuf};

use super::protocol::AskError;
use super::socket;
use crate::error::{Coded, ErrorCode};
use crate::io::Env;
use crate::ledger::{self, LedgerError};
use crate::pause;
use crate::quarantine;
use crate::reclaim::{self, retained_bytes};
use crate::wal::{self, LogView, OpenError, ReadError};
use crate::wrapper::{AdoptionReport, Counts, STATUS_VERSION, Status, TableReport, age_secs};

/// A log whose status cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The log cannot be read.
    #[error("the log in {directory} cannot be read", directory = .directory.display())]
    Log {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// The log does not say where its batches go.
    #[error("the log in {directory} has lost its identity file; its next owner writes it again", directory = .directory.display())]
    NoIdentity {
        /// The writer directory.
        directory: PathBuf,
    },
    /// The ledger cannot be read.
    #[error("the ledger in {directory} cannot be read", directory = .directory.display())]
    Ledger {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// The frames of the log cannot be counted.
    #[error("the frames in {directory} cannot be counted", directory = .directory.display())]
    Count {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// There is no such directory, and so no log.
    #[error("no log in or below {directory}; give the wal_dir of the program", directory = .directory.display())]
    NoDirectory {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The directory cannot be listed.
    #[error("{directory} cannot be listed", directory = .directory.display())]
    List {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl StatusError {
    /// The directory that it is about.
    pub fn directory(&self) -> &Path {
        match self {
            StatusError::Log { directory, .. }
            | StatusError::NoIdentity { directory }
            | StatusError::Ledger { directory, .. }
            | StatusError::Count { directory, .. }
            | StatusError::NoDirectory { directory }
            | StatusError::List { directory, .. } => directory,
        }
    }
}

impl Coded for StatusError {
    fn code(&self) -> ErrorCode {
        match self {
            StatusError::Log { source, .. } => source.code(),
            StatusError::NoIdentity { .. } => ErrorCode::Corruption,
            StatusError::Ledger { source, .. } => source.code(),
            StatusError::NoDirectory { .. } => ErrorCode::Configuration,
            StatusError::Count { .. } | StatusError::List { .. } => ErrorCode::Storage,
        }
    }
}

/// The status of the log in this writer directory. Takes no lock and writes nothing.
///
/// # Errors
///
/// [`StatusError`] if the log or its ledger cannot be read.
pub fn status(directory: &Path) -> Result<Status, StatusError> {
    status_and_silence(directory).map(|(status, _)| status)
}

/// The same; if it is told by the files, with why no owner told it.
pub(super) fn status_and_silence(directory: &Path) -> Result<(Status, Option<AskError>), StatusError> {
    let silence = match socket::status(directory) {
        Ok(live) => return Ok((live, None)),
        Err(silence) => silence,
    };
    let status = status_of_files(directory, silence.is_forbidden())?;
    Ok((status, Some(silence)))
}

/// The status as the files of the log tell it.
fn status_of_files(directory: &Path, is_forbidden: bool) -> Result<Status, StatusError> {
    let env = Env::os();
    let log_error = |source: OpenError| StatusError::Log { directory: directory.to_owned(), source };
    let view = LogView::read(&env, directory).map_err(log_error)?;
    let ledger_error = |source| StatusError::Ledger { directory: directory.to_owned(), source };
    let remembered = ledger::peek(directory, view.epoch()).map_err(ledger_error)?;
    let (record, ranges) = remembered.record.unwrap_or_default();
    let paused = pause::read(&env, directory).map_err(|source| {
        let (action, path) = ("read the mark of a pause in", directory.to_owned());
        log_error(OpenError::Storage { action, path, source })
    })?;
    let owner = wal::owner(&env, directory);
    let unknown_owner = owner.as_ref().err().map(|error| {
        format!(
            "whether somebody owns the log is not known, its file LOCK cannot be read ({error}); ask as the user of the program"
        )
    });
    let owner_pid = wal::owner_as_far_as_known(&env, directory).map(|owner| owner.pid);
    let settled = record.settled;
    let behind = view
        .count_from(settled.through.next())
        .map_err(|source| StatusError::Count { directory: directory.to_owned(), source })?;
    let waiting = reclaim::waiting(behind, settled, &ranges);
    let now = env.clock.unix_micros();
    let no_identity = || StatusError::NoIdentity { directory: directory.to_owned() };
    let destination = view.destination().ok_or_else(no_identity)?;
    let cached = remembered.table.filter(|cached| cached.table == destination.table);
    Ok(Status {
        version: STATUS_VERSION,
        table: destination.table.clone(),
        endpoint: destination.endpoint.clone(),
        unity_catalog_url: destination.unity_catalog_url.clone(),
        directory: directory.to_owned(),
        epoch: view.epoch(),
        owner_pid,
        settled_lsn: settled.through,
        durable_lsn: view.last(),
        rows: Counts {
            stored: record.delivered_rows + record.quarantined.rows + record.dropped.rows + waiting.rows,
            delivered: record.delivered_rows,
            quarantined: record.quarantined.rows,
            dropped: record.dropped.rows,
            waiting: waiting.rows,
        },
        frames: Counts {
            stored: record.delivered_frames
                + record.quarantined.frames
                + record.dropped.frames
                + waiting.frames,
            delivered: record.delivered_frames,
            quarantined: record.quarantined.frames,
            dropped: record.dropped.frames,
            waiting: waiting.frames,
        },
        damaged_frames: record.damaged_frames,
        floored_timestamps: record.bent.floored_timestamps,
        emptied_lists: record.bent.emptied_lists,
        doubtful_rows: remembered.streams.read.map_or(0, |streams| streams.doubtful_rows),
        quarantine: quarantine::peek(&env, directory),
        log_bytes: view.bytes(),
        waiting_bytes: waiting.bytes,
        retained_bytes: retained_bytes(&view.segment_infos(), settled.through),
        wal_max_bytes: None,
        wal_min_free_bytes: None,
        free_bytes: env.storage.free_bytes(directory).ok(),
        on_full: None,
        full: None,
        oldest_waiting_secs: waiting.oldest_unix_micros.map(|oldest| age_secs(oldest, now)),
        full_in_secs: None,
        drained_in_secs: None,
        paused,
        lane: None,
        table_schema: TableReport::new(
            cached.as_ref().map(|cached| &cached.schema),
            cached.as_ref().map_or(0, |cached| cached.read_unix_micros),
            now,
            Some(match owner_pid {
                Some(_) if unknown_owner.is_some() => unknown_owner.unwrap_or_default(),
                Some(_) if is_forbidden => "this user may not ask the owner of the log".to_owned(),
                Some(_) => "the owner of the log does not answer".to_owned(),
                None => "nobody owns the log, so the catalog is not asked".to_owned(),
            }),
        ),
        adoption: AdoptionReport::default(),
        settling_failure: None,
        poisoned: None,
        damage: view.damage().iter().map(ToString::to_string).collect(),
    })
}
