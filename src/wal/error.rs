//! What can go wrong: one enum per operation.

use std::{io, path::PathBuf, sync::Arc};

use arrow_schema::ArrowError;

use super::SchemaFingerprint;
use crate::{
    error::{Coded, ErrorCode},
    types::TableName,
};

/// Why a log cannot be opened or looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle of this one, owns the directory.
    #[error("{} is in use by {}", dir.display(), holder(*pid, program.as_deref()))]
    Locked {
        /// The writer directory.
        dir: PathBuf,
        /// The process that owns it, if its note could be read.
        pid: Option<u32>,
        /// The program of that process.
        program: Option<String>,
    },
    /// The log holds batches for another table.
    #[error("the log in {} is for table {stored}, not for {asked}; give {asked} another directory", dir.display())]
    OtherTable {
        /// The writer directory.
        dir: PathBuf,
        /// The table that the log is for.
        stored: TableName,
        /// The table that was asked for.
        asked: TableName,
    },
    /// A file was written by a later version of this program; it was left as it is.
    #[error("{} has format version {version}, this build knows {known}; open it with a newer one", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// The identity file cannot be understood.
    #[error("{} does not say whose log this is ({reason}); move it aside and it is written again", path.display())]
    Identity {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no log in the directory.
    #[error("{} holds no log", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Storage {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>, program: Option<&str>) -> String {
    match (pid, program) {
        (Some(pid), Some(program)) => format!("process {pid} ({program})"),
        (Some(pid), None) => format!("process {pid}"),
        (None, _) => "another process".to_owned(),
    }
}

impl Coded for OpenError {
    fn code(&self) -> ErrorCode {
        match self {
            OpenError::Locked { .. } => ErrorCode::Locked,
            OpenError::OtherTable { .. } | OpenError::NoLog { .. } => ErrorCode::Configuration,
            OpenError::UnsupportedVersion { .. } | OpenError::Identity { .. } => ErrorCode::Corruption,
            OpenError::Storage { .. } => ErrorCode::Storage,
        }
    }
}

/// Why a batch was not stored. One failure can reach many callers, hence `Clone`.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The frame does not fit into a segment; nothing was written.
    #[error("the batch needs {needed_bytes} bytes, a segment has {segment_bytes}; send it in smaller parts")]
    TooLarge {
        /// The bytes of a segment that holds this frame and nothing else.
        needed_bytes: u64,
        /// The bytes that a segment may have.
        segment_bytes: u64,
    },
    /// The log refuses everything after writes or syncs have failed in a row.
    #[error("the log in {} refuses appends: {reason}", dir.display())]
    Poisoned {
        /// The writer directory.
        dir: PathBuf,
        /// The first failure.
        reason: Arc<str>,
    },
    /// The file system refused; the batch is not promised, a later append can succeed.
    #[error("cannot {action} {}", path.display())]
    Storage {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl AppendError {
    /// Whether space on the disk is what is missing.
    pub fn is_out_of_space(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match self {
            AppendError::Storage { source, .. } => {
                matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
            }
            _ => false,
        }
    }
}

impl Coded for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            AppendError::TooLarge { .. } => ErrorCode::BatchTooLarge,
            AppendError::Poisoned { .. } => ErrorCode::Poisoned,
            AppendError::Storage { .. } if self.is_out_of_space() => ErrorCode::BufferFull,
            AppendError::Storage { .. } => ErrorCode::Storage,
            AppendError::Closed => ErrorCode::Closed,
        }
    }
}

/// Why the log cannot be read just now. Damaged bytes are no error: they are
/// [`Next::Damaged`](super::Next).
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct ReadError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl Coded for ReadError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Storage
    }
}

/// Why a batch cannot become the body of a frame, or a body a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Arrow IPC cannot carry the batch.
    #[error("the batch cannot be stored as arrow ipc")]
    Encode {
        /// What Arrow says.
        source: ArrowError,
    },
    /// The batch is longer than the format can say.
    #[error("the batch has {bytes} bytes, a frame {limit} at most; send it in smaller parts")]
    TooLarge {
        /// The length of the body.
        bytes: u64,
        /// The longest body.
        limit: u64,
    },
    /// The body has the right checksum but is no batch of its schema.
    #[error("a stored body is no batch of schema {fingerprint}: {reason}")]
    Decode {
        /// The schema that the frame names.
        fingerprint: SchemaFingerprint,
        /// What Arrow says.
        reason: String,
    },
}

impl Coded for FrameError {
    fn code(&self) -> ErrorCode {
        match self {
            FrameError::Encode { .. } => ErrorCode::Conversion,
            FrameError::TooLarge { .. } => ErrorCode::BatchTooLarge,
            FrameError::Decode { .. } => ErrorCode::Corruption,
        }
    }
}
