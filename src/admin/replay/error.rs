//! Why a replay is not done.

use std::path::PathBuf;

use crate::admin::LogsError;
use crate::admin::select::SelectionError;
use crate::config::ConfigError;
use crate::error::{Coded, ErrorCode};
use crate::types::Lsn;
use crate::wrapper::{DeliveryError, OpenError, SendError, ShutdownError};

/// Why a replay is not done. What is stored for it stays, and the same replay goes on there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// What was chosen means nothing.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// The logs cannot be read.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// A setting is wrong.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The log of the replay cannot be opened.
    #[error("the log of the replay cannot be opened")]
    Open(#[from] OpenError),
    /// A log does not say where its rows go.
    #[error(
        "the log in {directory} has lost its identity file; its next owner writes it again",
        directory = .directory.display()
    )]
    NoIdentity {
        /// The writer directory.
        directory: PathBuf,
    },
    /// The logs are of several tables or services.
    #[error(
        "the logs go to {first} and to {second}; give --table to choose one, or --to-table and --endpoint for all"
    )]
    SeveralDestinations {
        /// One.
        first: String,
        /// Another one.
        second: String,
    },
    /// Everything that was asked for is gone.
    #[error("frames {first} to {last} are not there any more: {reason}")]
    Gone {
        /// The first.
        first: Lsn,
        /// The last.
        last: Lsn,
        /// Why.
        reason: String,
    },
    /// The record of the replay cannot be relied on.
    #[error("the record {path} cannot be used: {reason}", path = .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Rows cannot be stored for delivery.
    #[error("rows of frame {lsn} cannot be stored for delivery")]
    Store {
        /// Their frame in the source.
        lsn: Lsn,
        /// Why not.
        #[source]
        source: Box<SendError>,
    },
    /// It is stored and not delivered.
    #[error("{rows} rows are stored in {directory} and not all are delivered; run the same replay again", directory = .directory.display())]
    Deliver {
        /// Rows that are stored.
        rows: u64,
        /// The directory of the replay.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: Box<DeliveryError>,
    },
    /// The log of the replay could not be closed in order.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
    /// It was stopped.
    #[error("interrupted after {rows} rows{}", go_on(.directory))]
    Cancelled {
        /// Rows that are stored for delivery, or looked at.
        rows: u64,
        /// The directory of the replay, if it has one.
        directory: Option<PathBuf>,
    },
}

fn go_on(directory: &Option<PathBuf>) -> String {
    match directory {
        Some(directory) => format!("; run the same replay again, it goes on in {}", directory.display()),
        None => String::new(),
    }
}

impl Coded for ReplayError {
    fn code(&self) -> ErrorCode {
        match self {
            ReplayError::Selection(error) => error.code(),
            ReplayError::Logs(error) => error.code(),
            ReplayError::Configuration(error) => error.code(),
            ReplayError::Open(error) => error.code(),
            ReplayError::NoIdentity { .. } | ReplayError::Record { .. } => ErrorCode::Corruption,
            ReplayError::SeveralDestinations { .. } | ReplayError::Gone { .. } => ErrorCode::Configuration,
            ReplayError::Io { .. } => ErrorCode::Storage,
            ReplayError::Store { source, .. } => source.code(),
            ReplayError::Deliver { source, .. } => source.code(),
            ReplayError::Shutdown(error) => error.code(),
            ReplayError::Cancelled { .. } => ErrorCode::Closed,
        }
    }

    fn lsn(&self) -> Option<Lsn> {
        match self {
            ReplayError::Store { lsn, .. } => Some(*lsn),
            _ => None,
        }
    }

    fn setting(&self) -> Option<&'static str> {
        match self {
            ReplayError::Configuration(error) => error.setting(),
            ReplayError::Open(error) => error.setting(),
            _ => None,
        }
    }
}
