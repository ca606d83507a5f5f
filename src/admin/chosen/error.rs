//! Why stored rows cannot be read.

use std::path::PathBuf;

use arrow_schema::ArrowError;

use crate::admin::{Lsns, StatusError};
use crate::error::{Coded, ErrorCode};
use crate::ledger::LedgerError;
use crate::types::Lsn;
use crate::wal::{FrameError, OpenError, ReadError};

/// Why the rows of a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// The log cannot be opened.
    #[error("the log in {directory} cannot be read", directory = .directory.display())]
    Log {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// The ledger cannot be read, so that nobody knows what is settled.
    #[error("the ledger in {directory} cannot be read", directory = .directory.display())]
    Ledger {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// The file system fails.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The quarantine cannot be listed.
    #[error("the quarantine in {directory} cannot be read: {reason}", directory = .directory.display())]
    Quarantine {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A frame that is whole holds something that is no batch.
    #[error("frame {lsn} cannot be decoded")]
    Decode {
        /// The frame.
        lsn: Lsn,
        /// Why not.
        #[source]
        source: FrameError,
    },
    /// Arrow cannot take rows out of a batch.
    #[error("rows of frame {lsn} cannot be taken out of it")]
    Take {
        /// The frame.
        lsn: Lsn,
        /// Why not.
        #[source]
        source: ArrowError,
    },
    /// Frames that no log has yet.
    #[error("no log in or below {root} has frames {asked}: {held}", root = .root.display())]
    NoFrames {
        /// Where it was looked for.
        root: PathBuf,
        /// What was asked for.
        asked: Lsns,
        /// What there is.
        held: String,
    },
    /// There is no log where one was asked for.
    #[error("no log{} in or below {root}; give the wal_dir of the program", of_table(.table), root = .root.display())]
    NoLog {
        /// Where it was looked for.
        root: PathBuf,
        /// The table that was asked for.
        table: Option<String>,
    },
}

fn of_table(table: &Option<String>) -> String {
    table.as_ref().map_or_else(String::new, |table| format!(" of table {table}"))
}

impl Coded for ChooseError {
    fn code(&self) -> ErrorCode {
        match self {
            ChooseError::Log { source, .. } => source.code(),
            ChooseError::Ledger { source, .. } => source.code(),
            ChooseError::Read(error) => error.code(),
            ChooseError::Quarantine { .. } => ErrorCode::Storage,
            ChooseError::Decode { source, .. } => source.code(),
            ChooseError::Take { .. } => ErrorCode::Internal,
            ChooseError::NoLog { .. } | ChooseError::NoFrames { .. } => ErrorCode::Configuration,
        }
    }

    fn lsn(&self) -> Option<Lsn> {
        match self {
            ChooseError::Decode { lsn, .. } | ChooseError::Take { lsn, .. } => Some(*lsn),
            _ => None,
        }
    }
}

/// Why the logs cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// They cannot be found.
    #[error(transparent)]
    Find(#[from] StatusError),
    /// One cannot be read.
    #[error(transparent)]
    Choose(#[from] ChooseError),
}

impl Coded for LogsError {
    fn code(&self) -> ErrorCode {
        match self {
            LogsError::Find(error) => error.code(),
            LogsError::Choose(error) => error.code(),
        }
    }
}
