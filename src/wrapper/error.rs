//! What can go wrong with each operation of a wrapper.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::DataType;

use super::DeliveryError;
use crate::admission::Full;
use crate::config::{ConfigError, OnFull};
use crate::convert::{ConversionError, DeltaType};
use crate::error::{Coded, ErrorCode, Misfit, chain};
use crate::ledger::LedgerError;
use crate::quarantine::PutError;
use crate::transport::TransportError;
use crate::types::Lsn;
use crate::wal::{AppendError, FrameError, ReadError};

/// A wrapper that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is wrong; nothing was created.
    #[error("the configuration is not valid")]
    Configuration(#[from] ConfigError),
    /// The log cannot be opened.
    #[error("the log cannot be opened")]
    Log(#[from] crate::wal::OpenError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Ledger(#[from] LedgerError),
    /// The quarantine cannot be read.
    #[error("the quarantine of the log cannot be opened: {reason}")]
    Quarantine {
        /// Why not.
        reason: String,
    },
    /// The client of the service cannot be made.
    #[error("the client of the service cannot be made")]
    Client(#[from] TransportError),
    /// This process was forked from one that had used the library, whose threads it does not have.
    #[error(transparent)]
    Forked(#[from] ForkedProcess),
    /// The runtime has no threads to give.
    #[error("the background threads cannot be started")]
    Runtime(#[source] std::io::Error),
}

impl From<PutError> for OpenError {
    fn from(error: PutError) -> OpenError {
        OpenError::Quarantine { reason: chain(&error) }
    }
}

impl Coded for OpenError {
    fn code(&self) -> ErrorCode {
        match self {
            OpenError::Configuration(error) => error.code(),
            OpenError::Log(error) => error.code(),
            OpenError::Read(error) => error.code(),
            OpenError::Ledger(error) => error.code(),
            OpenError::Quarantine { .. } => ErrorCode::Storage,
            OpenError::Client(_) => ErrorCode::Configuration,
            OpenError::Forked(error) => error.code(),
            OpenError::Runtime(_) => ErrorCode::Storage,
        }
    }

    fn setting(&self) -> Option<&'static str> {
        match self {
            OpenError::Configuration(error) => error.setting(),
            _ => None,
        }
    }
}

/// A batch that was not stored, or is stored and was not delivered in the time allowed.
///
/// What was not stored is handed back by [`SendError::into_batch`].
#[derive(Debug, thiserror::Error)]
#[error("{}", self.headline())]
pub struct SendError {
    lsn: Option<Lsn>,
    batch: Option<RecordBatch>,
    #[source]
    cause: SendFailure,
}

/// Why a batch was not stored, or not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// The batch cannot become protobuf.
    #[error(transparent)]
    Conversion(#[from] ConversionError),
    /// The batch cannot become a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No segment of this log can hold it. Nothing was written.
    #[error(
        "the batch needs {needed_bytes} bytes in the log, at most {limit_bytes} are possible with {setting} = {value}; \
         send it in smaller parts or set {setting} higher"
    )]
    TooLarge {
        /// What the batch needs.
        needed_bytes: u64,
        /// What a segment holds.
        limit_bytes: u64,
        /// The setting that limits a segment.
        setting: &'static str,
        /// Its value.
        value: u64,
    },
    /// The log is full. Nothing was written.
    #[error("{full}; {}; delivery is {delivery}", policy(*on_full, *waited))]
    Full {
        /// Why the log is full.
        full: Full,
        /// What the user has chosen for that.
        on_full: OnFull,
        /// How long it was waited for room.
        waited: Option<Duration>,
        /// What delivery is doing, and why it makes no room.
        delivery: String,
    },
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It is stored; delivery was waited for and did not happen.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The wrapper was shut down.
    #[error("the wrapper is shut down")]
    Closed,
    /// The wrapper belongs to another process.
    #[error(transparent)]
    Forked(#[from] ForkedProcess),
}

impl SendError {
    pub(super) fn not_stored(
        batch: impl Into<Option<RecordBatch>>,
        cause: impl Into<SendFailure>,
    ) -> SendError {
        SendError { lsn: None, batch: batch.into(), cause: cause.into() }
    }

    pub(super) fn not_delivered(lsn: Lsn, cause: DeliveryError) -> SendError {
        SendError { lsn: Some(lsn), batch: None, cause: cause.into() }
    }

    /// The batch, if it was not stored.
    pub fn into_batch(self) -> Option<RecordBatch> {
        self.batch
    }

    /// Why.
    pub fn cause(&self) -> &SendFailure {
        &self.cause
    }

    fn headline(&self) -> String {
        match self.lsn {
            Some(lsn) if matches!(self.cause, SendFailure::Delivery(DeliveryError::Dropped { .. })) => {
                format!("the batch was stored as LSN {lsn}, and is not any more")
            }
            Some(lsn) if matches!(self.cause, SendFailure::Delivery(DeliveryError::Quarantined { .. })) => {
                format!("the batch was stored as LSN {lsn}, and not all of it is delivered")
            }
            Some(lsn) => format!("the batch is stored as LSN {lsn}, and not delivered yet"),
            None => "the batch was not stored".to_owned(),
        }
    }
}

fn policy(on_full: OnFull, waited: Option<Duration>) -> String {
    match (on_full, waited) {
        (OnFull::Block, Some(waited)) => {
            format!("no room was made within {} s (block_timeout_secs)", waited.as_secs_f64())
        }
        (OnFull::DropOldest, _) => {
            "dropping the oldest frames makes no room (on_full = drop_oldest)".to_owned()
        }
        (on_full, _) => format!("nothing waits for room with on_full = {}", on_full.as_str()),
    }
}

impl Coded for SendError {
    fn code(&self) -> ErrorCode {
        match &self.cause {
            SendFailure::Conversion(error) => error.code(),
            SendFailure::Frame(error) => error.code(),
            SendFailure::TooLarge { .. } => ErrorCode::BatchTooLarge,
            SendFailure::Full { .. } => ErrorCode::BufferFull,
            SendFailure::Append(error) => error.code(),
            SendFailure::Delivery(error) => error.code(),
            SendFailure::Closed => ErrorCode::Closed,
            SendFailure::Forked(error) => error.code(),
        }
    }

    fn lsn(&self) -> Option<Lsn> {
        self.lsn
    }

    fn refused_rows(&self) -> Option<&[u32]> {
        match &self.cause {
            SendFailure::Delivery(error) => error.refused_rows(),
            _ => None,
        }
    }

    fn misfit(&self) -> Option<Misfit> {
        match &self.cause {
            SendFailure::Conversion(error) => misfit(error),
            _ => None,
        }
    }
}

fn misfit(error: &ConversionError) -> Option<Misfit> {
    let of = |column: &String, arrow_type: Option<&DataType>, delta_type: Option<&DeltaType>| {
        Some(Misfit {
            column: column.clone(),
            arrow_type: arrow_type.map(ToString::to_string),
            delta_type: delta_type.map(ToString::to_string),
        })
    };
    match error {
        ConversionError::UnsupportedType { column, arrow_type, delta_type, .. } => {
            of(column, Some(arrow_type), delta_type.as_ref())
        }
        ConversionError::UnknownColumn { column, arrow_type } => of(column, Some(arrow_type), None),
        ConversionError::MissingColumn { column, delta_type }
        | ConversionError::UnsupportedColumn { column, delta_type, .. } => of(column, None, Some(delta_type)),
        ConversionError::InvalidColumnName { column, .. }
        | ConversionError::DuplicateColumnName { column, .. }
        | ConversionError::TooDeep { column, .. } => of(column, None, None),
        ConversionError::NoColumns | ConversionError::TooManyColumns { .. } => None,
    }
}

/// Credentials that were not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// They are none, or nobody asks for any.
    #[error("the credentials were not changed")]
    Configuration(#[from] ConfigError),
    /// The wrapper was shut down before.
    #[error("the wrapper is shut down")]
    Closed,
    /// The wrapper belongs to another process.
    #[error(transparent)]
    Forked(#[from] ForkedProcess),
}

impl Coded for UpdateError {
    fn code(&self) -> ErrorCode {
        match self {
            UpdateError::Configuration(error) => error.code(),
            UpdateError::Closed => ErrorCode::Closed,
            UpdateError::Forked(error) => error.code(),
        }
    }

    fn setting(&self) -> Option<&'static str> {
        match self {
            UpdateError::Configuration(error) => error.setting(),
            _ => None,
        }
    }
}

/// A shutdown that could not do all of its work. The log is whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Something could not be made durable.
    #[error("the shutdown is not clean: {reason}")]
    Unclean {
        /// What, and why not.
        reason: String,
    },
    /// The wrapper belongs to another process.
    #[error(transparent)]
    Forked(#[from] ForkedProcess),
}

impl Coded for ShutdownError {
    fn code(&self) -> ErrorCode {
        match self {
            ShutdownError::Unclean { .. } => ErrorCode::Storage,
            ShutdownError::Forked(error) => error.code(),
        }
    }
}

/// A call in a forked child: the threads and the lock stayed with the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "process {owner} has used the library before it forked this process, {current}, and its threads stayed there: \
     start processes with spawn or forkserver, or open the first wrapper after the fork"
)]
pub struct ForkedProcess {
    /// The process that opened the wrapper.
    pub owner: u32,
    /// The process that called.
    pub current: u32,
}

impl Coded for ForkedProcess {
    fn code(&self) -> ErrorCode {
        ErrorCode::Forked
    }
}
