//! Freeing what is settled of a log and only kept: by its live owner, or by taking the log for a moment.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::socket::{self, Answer, AskError, Question};
use super::{StatusError, status};
use crate::error::{Coded, ErrorCode};
use crate::io::Env;
use crate::types::{Lsn, TableName};
use crate::wal::{Destination, LogView};
use crate::wrapper::{Freeing, OpenError, SegmentFate, fates, free_settled_of_dead};

/// Version of [`Reclaim`] as JSON; grows when a field changes its meaning or goes away.
pub const RECLAIM_VERSION: u32 = 1;

/// What was freed of a log, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// The writer directory.
    pub directory: PathBuf,
    /// The table.
    pub table: TableName,
    /// The process that owns the log and was asked; `None` if nobody does.
    pub owner_pid: Option<u32>,
    /// Whether it was done, and is no plan.
    pub executed: bool,
    /// Every frame up to here is settled, durably so.
    pub settled_lsn: Lsn,
    /// The segments with frames as they were before, in order.
    pub segments: Vec<SegmentFate>,
    /// Bytes that were freed; 0 in a plan.
    pub freed_bytes: u64,
}

/// Settled segments that could not be freed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReclaimError {
    /// There is an owner, and it did not do it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The log cannot be looked at.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The log cannot be opened.
    #[error("the log in {directory} cannot be taken to free segments of it", directory = .directory.display())]
    Open {
        /// The writer directory.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: OpenError,
    },
}

impl Coded for ReclaimError {
    fn code(&self) -> ErrorCode {
        match self {
            ReclaimError::Ask(error) => error.code(),
            ReclaimError::Status(error) => error.code(),
            ReclaimError::Open { source, .. } => source.code(),
        }
    }
}

/// Frees the segments of which every frame is settled, whatever is to be retained for replay; only tells which with
/// `executes` false. A log with an owner is freed by that, one without is taken for as long as it needs.
///
/// No frame that is not settled is touched \[I4\], and nothing that the ledger does not say durably \[I5\].
///
/// # Errors
///
/// [`ReclaimError`]; what was freed until then is freed.
pub fn reclaim(directory: &Path, executes: bool) -> Result<Reclaim, ReclaimError> {
    let before = status(directory)?;
    let (owner_pid, freeing) = match socket::ask(directory, &Question::Reclaim { executes }) {
        Ok(Answer::Reclaimed { freeing }) => (before.owner_pid, freeing),
        Ok(other) => return Err(socket::unexpected(directory, &other).into()),
        Err(AskError::NoOwner { .. }) if executes => {
            let destination = Destination {
                table: before.table.clone(),
                endpoint: before.endpoint,
                unity_catalog_url: before.unity_catalog_url,
            };
            let freed = free_settled_of_dead(&Env::os(), directory, &destination);
            let freed =
                freed.map_err(|source| ReclaimError::Open { directory: directory.to_owned(), source })?;
            (None, freed)
        }
        Err(AskError::NoOwner { .. }) => {
            let view = LogView::read(&Env::os(), directory)
                .map_err(|source| StatusError::Log { directory: directory.to_owned(), source })?;
            let settled_lsn = before.settled_lsn;
            let segments = fates(&view.segment_infos(), settled_lsn, None, None);
            (None, Freeing { settled_lsn, segments, freed_bytes: 0 })
        }
        Err(error) => return Err(error.into()),
    };
    let Freeing { settled_lsn, segments, freed_bytes } = freeing;
    Ok(Reclaim {
        directory: directory.to_owned(),
        table: before.table,
        owner_pid,
        executed: executes,
        settled_lsn,
        segments,
        freed_bytes,
    })
}
