//! A request in the making: rows, and the stretch of the log that they and what is passed without them are.

use std::sync::Arc;

use arrow_schema::ArrowError;

use super::fed::{Fed, FeedError, Request};
use super::recipe::{Pieces, Recipe};
use super::{Parts, Span};
use crate::error::ErrorCode;
use crate::telemetry::Contexts;
use crate::transport::TransportError;

/// A request in the making.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) rows: Pieces,
    pub(super) framed_bytes: usize,
    /// None while there are no rows.
    pub(super) plan: Option<Arc<Recipe>>,
    /// None while nothing is passed.
    pub(super) span: Option<Span>,
    pub(super) holes: crc32fast::Hasher,
    parts: Parts,
    /// The traces that its rows belong to.
    pub(super) contexts: Contexts,
}

impl Piece {
    /// Nothing yet, of a request that may become like one of so many rows and bytes.
    pub(super) fn like(newest: (usize, usize)) -> Piece {
        Piece { rows: Pieces::like(newest), ..Piece::default() }
    }

    /// Adds what comes behind it.
    pub(super) fn add(&mut self, part: Span) {
        match &mut self.span {
            Some(span) => span.join(&part),
            None => self.span = Some(part),
        }
        self.parts.push(part);
    }

    /// The checksum of the numbers of the rows that it passes.
    pub(super) fn holes(&self) -> u32 {
        self.holes.clone().finalize()
    }

    /// What it has become; nothing if it passes nothing.
    pub(super) fn finish(self) -> Result<Option<Fed>, FeedError> {
        let holes = self.holes();
        let Piece { rows, framed_bytes, plan, span, parts, contexts, .. } = self;
        Ok(match (plan, span) {
            (Some(plan), Some(span)) => {
                let payload = rows.finish().map_err(unmade)?;
                Some(Fed::Request(Request { payload, framed_bytes, span, holes, parts, plan, contexts }))
            }
            (None, Some(span)) => Some(Fed::Skipped(span)),
            (_, None) => None,
        })
    }
}

/// Out of memory, for one: another try may succeed.
pub(super) fn unmade(error: ArrowError) -> FeedError {
    let text = format!("a request cannot be made: {error}");
    FeedError::Failed(TransportError::transient(ErrorCode::Internal, text))
}
