//! What a feed hands out: requests, and why there is none.

use std::sync::Arc;

use super::grace::Schema;
use super::recipe::Recipe;
use super::{Parts, Span};
use crate::error::ErrorCode;
use crate::telemetry::Contexts;
use crate::transport::{Format, Payload, TransportError};

/// What goes to the service in one piece.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) payload: Payload,
    pub(super) framed_bytes: usize,
    pub(super) span: Span,
    /// A checksum of the numbers of the rows that it passes; zero if there are none.
    pub(super) holes: u32,
    /// What the span is made of, in order.
    pub(super) parts: Parts,
    /// The plan of its first rows. Those of the others have the same format.
    pub(super) plan: Arc<Recipe>,
    /// The traces that its rows belong to.
    pub(super) contexts: Contexts,
}

impl Request {
    pub(super) fn format(&self) -> &Format {
        self.plan.format()
    }

    /// Whether rows of this plan may travel with those of this request, and on its stream.
    pub(super) fn takes(&self, plan: &Arc<Recipe>) -> bool {
        is_same(&self.plan, plan)
    }
}

/// Usually it is the same one, and a format can have thousands of fields.
pub(super) fn is_same(one: &Arc<Recipe>, other: &Arc<Recipe>) -> bool {
    Arc::ptr_eq(one, other) || one.format() == other.format()
}

/// What comes next on the way out of the log.
#[derive(Debug)]
pub(super) enum Fed {
    /// Rows to send.
    Request(Request),
    /// Nothing to send: damage took what was there, or it is in quarantine.
    Skipped(Span),
}

/// Why there is no next request.
#[derive(Debug)]
pub(super) enum FeedError {
    /// The log could not be read; another try may succeed.
    Unreadable(String),
    /// Rows that cannot be sent, and not put into quarantine either, or not yet.
    Failed(TransportError),
    /// A schema that does not fit the table.
    Schema(Schema, TransportError),
    /// What does not fit the table as it is known may fit it as it is: to be told after the catalog was asked. See
    /// [`Feed::confirm`](super::feed::Feed::confirm).
    Doubtful(TransportError),
    /// A request that is recorded cannot be made again as it was.
    Altered(TransportError),
}

impl From<FeedError> for TransportError {
    fn from(error: FeedError) -> TransportError {
        match error {
            FeedError::Failed(error)
            | FeedError::Schema(_, error)
            | FeedError::Doubtful(error)
            | FeedError::Altered(error) => error,
            FeedError::Unreadable(message) => {
                TransportError::transient(ErrorCode::Storage, format!("the log cannot be read: {message}"))
            }
        }
    }
}
