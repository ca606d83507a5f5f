//! Why rows cannot be put into quarantine, and what is wrong with a file that is there.

use std::path::PathBuf;

use arrow_schema::ArrowError;

use crate::reserve::is_out_of_space;
use crate::types::Lsn;

/// Rows that could not be put into quarantine. They stay in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// The quota.
    #[error(
        "{directory} holds {used_bytes} bytes, and {needed_bytes} more are above quarantine_max_bytes = {max_bytes}; \
         look at its files and remove them, or set quarantine_max_bytes higher",
        directory = .directory.display()
    )]
    Full { directory: PathBuf, used_bytes: u64, needed_bytes: u64, max_bytes: u64 },
    /// The user wants none.
    #[error("quarantine_max_bytes is 0, so refused rows wait in the log; change the table or the setting")]
    Off,
    /// The file system refused.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Arrow cannot write the rows.
    #[error("the rows of frame {lsn} cannot be written as an Arrow file")]
    Encode {
        lsn: Lsn,
        #[source]
        source: ArrowError,
    },
}

impl PutError {
    pub(super) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> PutError {
        let path = path.to_owned();
        move |source| PutError::Io { action, path, source }
    }

    pub(super) fn is_out_of_space(&self) -> bool {
        match self {
            PutError::Io { source, .. } => is_out_of_space(source),
            PutError::Encode { source: ArrowError::IoError(_, source), .. } => is_out_of_space(source),
            _ => false,
        }
    }
}

/// A file among those in quarantine that says nothing about our rows. It stays where it is \[I14\].
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It could not be read.
    #[error("{path} cannot be read", path = .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is damaged, or nothing of ours.
    #[error("{path} is no file of this log's quarantine: {reason}; move it away", path = .path.display())]
    NotOurs { path: PathBuf, reason: String },
}
