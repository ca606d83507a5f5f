//! Why a ledger cannot be read or made durable.

use std::path::{Path, PathBuf};

use crate::error::{Coded, ErrorCode};
use crate::reserve::is_out_of_space;

/// A ledger that cannot be read or made durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file system refused.
    #[error("cannot {action} the ledger {path}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The store refused.
    #[error("cannot {action} the ledger {path}", path = .path.display())]
    Store {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored cannot be read.
    #[error("the ledger {path} is damaged: {reason}", path = .path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Coded for LedgerError {
    fn code(&self) -> ErrorCode {
        match self {
            LedgerError::Io { .. } | LedgerError::Store { .. } => ErrorCode::Storage,
            LedgerError::Damaged { .. } => ErrorCode::Corruption,
        }
    }
}

impl LedgerError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
        let path = path.to_owned();
        move |source| LedgerError::Io { action, path, source }
    }

    pub(super) fn is_out_of_space(&self) -> bool {
        matches!(self, LedgerError::Io { source, .. } if is_out_of_space(source))
    }

    /// Whether the bytes are what is wrong: a store reports some of that as errors of its reading. An error
    /// of the operating system has a number and is about the disk.
    pub fn is_damage(&self) -> bool {
        match self {
            LedgerError::Io { source, .. } => source.raw_os_error().is_none() && !is_out_of_space(source),
            LedgerError::Store { .. } | LedgerError::Damaged { .. } => true,
        }
    }
}
