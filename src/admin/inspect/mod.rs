//! What exactly stands in a log: in one segment, in one frame, in the ledger, and which schemas there are. For people who
//! want to know why; nothing here takes a lock or writes.

mod frame;
mod ledger;
mod schema;
mod segment;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::list::search;
use super::status::StatusError;
use crate::error::{Coded, ErrorCode};
use crate::ledger::LedgerError;
use crate::types::Lsn;
use crate::wal::{Damage, FrameError, OpenError};

pub use frame::{Column, FrameReport, FrameState, InspectedFrame, inspect_frame};
pub(super) use ledger::set_aside;
pub use ledger::{
    LedgerReport, SettledStretch, StreamReport, TableColumnReport, TableReport, inspect_ledger,
};
pub use schema::{SchemaReport, StoredSchemaReport, TableMatch, inspect_schema};
pub use segment::{
    FooterReport, HeaderReport, HeaderState, PieceReport, SegmentReport, SegmentState, inspect_segment,
};

/// What cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A file cannot be read.
    #[error("{path} cannot be read", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Nothing says which segment of which log a file is.
    #[error(
        "{path} is no segment: no file with a whole header or footer, or in the directory of a log under the name of one; \
         give a file such as <wal_dir>/<table>/writer-001/segment-0000000000000001.wal",
        path = .path.display()
    )]
    NoSegment {
        /// The file.
        path: PathBuf,
    },
    /// Another version of this program wrote it.
    #[error("{path} has format version {version}; look at it with a newer build", path = .path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There is no log, or it cannot be read.
    #[error(transparent)]
    Log(#[from] StatusError),
    /// There is none in or below the directory.
    #[error("no log in or below {root}; give the wal_dir of the program, or a writer directory", root = .root.display())]
    NoLog {
        /// Where it was looked for.
        root: PathBuf,
    },
    /// There are several.
    #[error(
        "{count} logs are below {root}; give the directory of one, such as {first}",
        root = .root.display(), first = .first.display()
    )]
    SeveralLogs {
        /// Where they were looked for.
        root: PathBuf,
        /// How many there are.
        count: usize,
        /// The first.
        first: PathBuf,
    },
    /// No frame has this number.
    #[error("frame {lsn} is not in {directory}, which {}", held(*.lsns), directory = .directory.display())]
    NoFrame {
        /// The number.
        lsn: Lsn,
        /// The writer directory.
        directory: PathBuf,
        /// The first and the last frame that are there.
        lsns: Option<(Lsn, Lsn)>,
    },
    /// The frame is there, and not whole.
    #[error("the frame cannot be read: {damage}; the frames around it can, see: zerobus-wal verify")]
    Damaged {
        /// What is wrong.
        damage: Damage,
    },
    /// The frame is whole, and no batch of its schema.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

fn held(lsns: Option<(Lsn, Lsn)>) -> String {
    match lsns {
        Some((first, last)) => format!("holds {first} to {last}; those before were delivered and freed"),
        None => "holds none".to_owned(),
    }
}

impl Coded for InspectError {
    fn code(&self) -> ErrorCode {
        match self {
            InspectError::File { .. } => ErrorCode::Storage,
            InspectError::OtherVersion { .. }
            | InspectError::NoSegment { .. }
            | InspectError::NoLog { .. }
            | InspectError::SeveralLogs { .. }
            | InspectError::NoFrame { .. } => ErrorCode::Configuration,
            InspectError::Log(error) => error.code(),
            InspectError::Damaged { .. } => ErrorCode::Corruption,
            InspectError::Frame(error) => error.code(),
        }
    }

    fn lsn(&self) -> Option<Lsn> {
        match self {
            InspectError::NoFrame { lsn, .. } => Some(*lsn),
            InspectError::Damaged { damage } => damage.lsns.as_ref().map(|lsns| *lsns.start()),
            _ => None,
        }
    }
}

impl InspectError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> InspectError {
        let path = path.to_owned();
        move |source| InspectError::File { path, source }
    }

    fn log(directory: &Path) -> impl FnOnce(OpenError) -> InspectError {
        let directory = directory.to_owned();
        move |source| StatusError::Log { directory, source }.into()
    }

    fn ledger(directory: &Path) -> impl FnOnce(LedgerError) -> InspectError {
        let directory = directory.to_owned();
        move |source| StatusError::Ledger { directory, source }.into()
    }
}

/// The one log at or below a directory.
///
/// # Errors
///
/// [`InspectError`] if there is none, there are several, or one cannot be read.
pub fn one_log(root: &Path) -> Result<PathBuf, InspectError> {
    let mut found = search(root).into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
    match (found.next(), found.len()) {
        (None, _) => Err(InspectError::NoLog { root: root.to_owned() }),
        (Some(log), 0) => Ok(log),
        (Some(first), more) => {
            Err(InspectError::SeveralLogs { root: root.to_owned(), count: more + 1, first })
        }
    }
}

/// Numbers one after the other, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Run {
    /// Of rows, counted as in Rust.
    fn of_rows(rows: &std::ops::Range<u32>) -> Option<Run> {
        (rows.start < rows.end).then(|| Run { first: rows.start.into(), last: u64::from(rows.end) - 1 })
    }

    /// Adds a number that comes next in order to the last run, or as one of its own.
    fn extend(runs: &mut Vec<Run>, number: u64) {
        match runs.last_mut() {
            Some(last) if last.last + 1 == number => last.last = number,
            _ => runs.push(Run { first: number, last: number }),
        }
    }
}
