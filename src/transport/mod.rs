//! How requests reach the service: the trait that the drainer talks to, and its errors.

mod classes;
mod details;
pub mod zerobus;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use prost_types::DescriptorProto;

pub(crate) use self::classes::Symptom;
pub(crate) use self::details::retry_after;
#[cfg(feature = "emulator")]
pub(crate) use self::details::{Details, ErrorInfo, RetryInfo};
use crate::convert::RecordRuns;
use crate::error::{Coded, ErrorCode};
use crate::types::StreamOffset;

/// A way to a table.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Opens a stream for rows of this format.
    ///
    /// # Errors
    ///
    /// [`TransportError`], classified; nothing was sent.
    async fn open(&self, format: &Format) -> Result<Box<dyn Stream>, TransportError>;

    /// Creates a persistent stream of records of this message, or resumes the one of that name. From then on nothing that
    /// was sent to it before, and is not committed, can become so.
    ///
    /// # Errors
    ///
    /// [`TransportError`], classified; nothing was sent. One that was to be created may be there all the same, without
    /// anything in it.
    async fn open_persistent(
        &self,
        descriptor: &Arc<DescriptorProto>,
        resume: Option<&str>,
    ) -> Result<PersistentStream, TransportError>;

    /// The next stream shall be opened with a token that is fetched anew.
    fn forget_token(&self);
}

/// An open stream: requests go in, in order; acknowledgements come back, in the same order.
#[async_trait]
pub trait Stream: Send + Sync {
    /// Hands one request over, of the format of the stream, and returns the stream offset that stands for all of its rows.
    ///
    /// # Errors
    ///
    /// [`TransportError`] with the cause of the stream's end. The request may have arrived.
    async fn send(&self, payload: Payload) -> Result<StreamOffset, TransportError>;

    /// Returns once the service has acknowledged this offset, and with it all before it \[I7\].
    ///
    /// # Errors
    ///
    /// [`TransportError`] with the cause of the stream's end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing; ask again.
    async fn acknowledged(&self, offset: StreamOffset) -> Result<(), TransportError>;

    /// How many of the rows that were handed over are durable, from the first on. To be asked once the stream has failed;
    /// none where that is known of whole requests only.
    async fn durable_rows(&self) -> Option<u64> {
        None
    }

    /// Ends a stream that has nothing in flight.
    async fn close(self: Box<Self>);
}

/// A stream that the service remembers: what is committed on it stays known under its name.
pub struct PersistentStream {
    /// Its name.
    pub id: String,
    /// Up to which stream offset it was committed when it was opened; none if nothing was. The next request has the one
    /// after it.
    pub committed: Option<StreamOffset>,
    /// The stream itself.
    pub stream: Box<dyn Stream>,
}

/// What the rows of a stream are.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Protobuf records of this message.
    Protobuf(Arc<DescriptorProto>),
    /// Arrow batches of this schema.
    Arrow(SchemaRef),
}

/// The rows of a request. They are not empty.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Protobuf records.
    Records(RecordRuns),
    /// An Arrow batch.
    Batch(RecordBatch),
}

/// What to do about a failure (design: error classes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try again, for ever.
    Transient,
    /// The destination refuses us: wait until somebody changes that, and probe.
    Blocked,
    /// These rows, or this schema, will be refused again.
    Poison,
}

/// A failure of the service or of the way to it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    /// What to do about it.
    pub class: ErrorClass,
    /// Its row in the table of errors.
    pub code: ErrorCode,
    /// What the service or the network said.
    pub message: String,
    /// The wait that the server asked for.
    pub retry_after: Option<Duration>,
    /// What it is a symptom of, if that was seen.
    pub(crate) symptom: Option<Symptom>,
}

impl TransportError {
    /// A failure with the class and code that the table has for it.
    pub(crate) fn of(symptom: Symptom, message: impl Into<String>) -> TransportError {
        let (class, code) = symptom.class();
        TransportError { class, code, message: message.into(), retry_after: None, symptom: Some(symptom) }
    }

    fn unseen(class: ErrorClass, code: ErrorCode, message: impl Into<String>) -> TransportError {
        TransportError { class, code, message: message.into(), retry_after: None, symptom: None }
    }

    /// Whether the service answered with this code.
    pub(crate) fn is_grpc(&self, code: tonic::Code) -> bool {
        self.symptom == Some(Symptom::Grpc(code))
    }

    /// A failure that the next attempt may not meet.
    pub fn transient(code: ErrorCode, message: impl Into<String>) -> TransportError {
        TransportError::unseen(ErrorClass::Transient, code, message)
    }

    /// A refusal that lasts until somebody changes a grant, a secret or a table.
    pub fn blocked(code: ErrorCode, message: impl Into<String>) -> TransportError {
        TransportError::unseen(ErrorClass::Blocked, code, message)
    }

    /// A refusal of what we sent.
    pub fn poison(code: ErrorCode, message: impl Into<String>) -> TransportError {
        TransportError::unseen(ErrorClass::Poison, code, message)
    }
}

impl Coded for TransportError {
    fn code(&self) -> ErrorCode {
        self.code
    }
}
