//! Why something that was waited for is not delivered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ForkedProcess;
use crate::error::{Coded, ErrorCode};
use crate::ledger::DroppedRange;
use crate::pause::Pause;
use crate::transport::TransportError;
use crate::types::Lsn;

/// Delivery that was waited for and did not happen. Nothing is lost and delivery goes on, but for
/// [`DeliveryError::Dropped`]; what is [`DeliveryError::Quarantined`] is kept and not tried again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// As many attempts as the caller allows have failed.
    #[error("{attempts} attempts in a row failed; what waits is stored and goes on being tried")]
    RetryExhausted {
        /// Failed attempts since the wait began.
        attempts: u64,
        /// The last failure.
        #[source]
        last: TransportError,
    },
    /// The destination refuses us, or what we send.
    #[error("the destination refuses; what waits is stored and goes on being tried")]
    Refused(#[source] TransportError),
    /// The caller's time is over.
    #[error("not delivered within {} s; what waits is stored and goes on being tried", .timeout.as_secs_f64())]
    Timeout {
        /// The time that was allowed.
        timeout: Duration,
    },
    /// Somebody has paused delivery.
    #[error("{pause}; what waits is stored")]
    Paused {
        /// Since when, and why.
        pause: Pause,
    },
    /// Delivered, and the ledger cannot record it.
    #[error("what was delivered cannot be recorded and may be delivered again after a restart: {reason}")]
    Ledger {
        /// Why not.
        reason: String,
    },
    /// The disk refused a frame that was promised without a sync; it is in memory only.
    #[error("the log is poisoned and frame {lsn} was never synced: {reason}")]
    Unsynced {
        /// The frame that was waited for.
        lsn: Lsn,
        /// The first failure.
        reason: Arc<str>,
    },
    /// Dropped because the log was full, as the user has allowed with [`OnFull::DropOldest`](crate::OnFull::DropOldest).
    #[error(
        "{}dropped because the log was full (on_full = drop_oldest); what was dropped is not delivered",
        which_frames(.dropped, *.lsn)
    )]
    Dropped {
        /// The frame that was waited for; `None` if it was everything.
        lsn: Option<Lsn>,
        /// The stretch of the log that it is in, or the newest one.
        dropped: DroppedRange,
    },
    /// Refused for good and kept in quarantine. The other rows are delivered.
    #[error(
        "{}refused for good and {} in quarantine, {path}{}; look at them there, correct them and send them again",
        which_rows(*.lsn, *.count, rows),
        if *count == 1 { "is" } else { "are" },
        because(reason),
        path = .path.display()
    )]
    Quarantined {
        /// The frame that was waited for; `None` if it was everything.
        lsn: Option<Lsn>,
        /// Which rows of the frame, from 0; the first [`ROWS_NAMED_MAX`] of them. Empty if it was everything.
        rows: Vec<u32>,
        /// How many rows.
        count: u64,
        /// Why the first of them was refused; empty if that is not known.
        reason: String,
        /// The first file, or the directory.
        path: PathBuf,
    },
    /// A background task is gone, which is a bug.
    #[error("a background task has ended, which is a bug; what waits is stored, open the wrapper again")]
    Ended,
    /// No frame has this number.
    #[error("no frame has LSN {lsn}, the last one is {last}")]
    Unknown {
        /// The number that was asked for.
        lsn: Lsn,
        /// The last frame of the log.
        last: Lsn,
    },
    /// The wrapper was shut down before.
    #[error("the wrapper is shut down")]
    Closed,
    /// The wrapper belongs to another process.
    #[error(transparent)]
    Forked(#[from] ForkedProcess),
}

fn which_frames(range: &DroppedRange, lsn: Option<Lsn>) -> String {
    let DroppedRange { first, last, is_whole } = range;
    match (lsn, is_whole) {
        (Some(lsn), true) => format!("frame {lsn} was "),
        (Some(lsn), false) => {
            format!("frame {lsn} may have been among the frames between {first} and {last} that were ")
        }
        (None, true) => format!("frames {first} to {last} were "),
        (None, false) => format!("frames between {first} and {last} were "),
    }
}

/// How many rows [`DeliveryError::Quarantined`] names.
pub const ROWS_NAMED_MAX: usize = 1_000;

fn which_rows(lsn: Option<Lsn>, count: u64, rows: &[u32]) -> String {
    let was = if count == 1 { "was" } else { "were" };
    match (lsn, rows) {
        (Some(lsn), [row]) if count == 1 => format!("row {row} of frame {lsn} was "),
        (Some(lsn), [row, ..]) => format!("{count} rows of frame {lsn}, the first row {row}, {was} "),
        (Some(lsn), []) => format!("{count} rows of frame {lsn} {was} "),
        (None, _) => format!("{count} {} {was} ", if count == 1 { "row" } else { "rows" }),
    }
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" (the first because: {reason})") }
}

impl Coded for DeliveryError {
    fn lsn(&self) -> Option<Lsn> {
        match self {
            DeliveryError::Quarantined { lsn, .. } => *lsn,
            _ => None,
        }
    }

    fn refused_rows(&self) -> Option<&[u32]> {
        match self {
            DeliveryError::Quarantined { rows, .. } => Some(rows),
            _ => None,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            DeliveryError::Quarantined { .. } => ErrorCode::Transmission,
            DeliveryError::RetryExhausted { .. } => ErrorCode::RetryExhausted,
            DeliveryError::Refused(error) => error.code,
            DeliveryError::Paused { .. } => ErrorCode::Paused,
            DeliveryError::Timeout { .. } => ErrorCode::FlushTimeout,
            DeliveryError::Ledger { .. } => ErrorCode::Storage,
            DeliveryError::Unsynced { .. } => ErrorCode::Poisoned,
            DeliveryError::Dropped { .. } => ErrorCode::Transmission,
            DeliveryError::Ended => ErrorCode::Internal,
            DeliveryError::Unknown { .. } => ErrorCode::Configuration,
            DeliveryError::Closed => ErrorCode::Closed,
            DeliveryError::Forked(error) => error.code(),
        }
    }
}
