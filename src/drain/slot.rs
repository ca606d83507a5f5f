//! One stream of several: its window, its age, and who waits for its acknowledgements.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::Span;
use super::fed::Request;
use super::inflight::{InFlight, Window};
use super::lane::Lane;
use super::pump::acknowledgement;
use super::recipe::Recipe;
use crate::deaths::{Death, reached};
use crate::transport::{Stream, TransportError};

/// Returns when the oldest request of a slot is acknowledged, or its stream has failed.
pub(super) type Acknowledgement = BoxFuture<'static, (usize, Result<(), TransportError>)>;

/// An open stream.
pub(super) struct Slot {
    // Whoever waits for an acknowledgement holds it too.
    stream: Arc<Box<dyn Stream>>,
    /// The plan of the request that it was opened for.
    plan: Arc<Recipe>,
    window: Window,
    old_age: Instant,
    /// On a slow line the last of a full window waits for all before it: progress counts, not its age.
    last_progress: Instant,
    /// How many attempts had failed when it was opened.
    pub(super) failures_before: u64,
    /// Nothing more is sent on it; it is closed once everything is acknowledged.
    pub(super) is_ending: bool,
    /// Why the last request could not be handed over, and that request. What was acknowledged before is heard first.
    unsent: Option<(TransportError, Span)>,
}

impl Slot {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        plan: Arc<Recipe>,
        lane: &Lane,
        old_age: Duration,
        failures_before: u64,
    ) -> Slot {
        let now = Instant::now();
        Slot {
            stream: Arc::new(stream),
            plan,
            window: lane.new_window(),
            old_age: now + old_age,
            last_progress: now,
            failures_before,
            is_ending: false,
            unsent: None,
        }
    }

    /// Whether it is for requests like this one.
    pub(super) fn takes(&self, request: &Request) -> bool {
        !self.is_ending && self.unsent.is_none() && request.takes(&self.plan)
    }

    pub(super) fn has_room(&self) -> bool {
        self.window.has_room_beside(0, 0)
    }

    /// How many requests are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// What is in flight, or may be.
    pub(super) fn spans(&self) -> impl DoubleEndedIterator<Item = Span> {
        self.window.spans().chain(self.unsent.as_ref().map(|(_, span)| *span))
    }

    /// When it is too old.
    pub(super) fn old_age(&self) -> Option<Instant> {
        (!self.is_ending).then_some(self.old_age)
    }

    /// Sends a request. Returns what to wait for, if nobody waits for this stream yet.
    pub(super) async fn send(&mut self, slot: usize, request: Request) -> Option<Acknowledgement> {
        let Request { payload, framed_bytes: bytes, span, parts, contexts, .. } = request;
        match self.stream.send(payload).await {
            Ok(offset) => {
                reached(Death::Sent);
                let is_first = self.window.oldest().is_none();
                let sent_at = Instant::now();
                self.window.push(InFlight { offset, span, parts, bytes, sent_at, contexts });
                if is_first { self.acknowledgement(slot) } else { None }
            }
            Err(error) => {
                self.unsent = Some((error, span));
                None
            }
        }
    }

    /// The acknowledgement of the oldest request; none if nothing is in flight.
    pub(super) fn acknowledgement(&self, slot: usize) -> Option<Acknowledgement> {
        let oldest = self.window.oldest()?;
        let awaited = (oldest.offset, oldest.sent_at.max(self.last_progress));
        let stream = Arc::clone(&self.stream);
        Some(Box::pin(async move { (slot, acknowledgement(stream.as_ref().as_ref(), Some(awaited)).await) }))
    }

    /// Takes out the oldest request, which was acknowledged.
    pub(super) fn acknowledge_oldest(&mut self) -> Option<Span> {
        self.last_progress = Instant::now();
        self.window.pop().map(|request| request.span)
    }

    /// It has failed for this reason.
    pub(super) fn fails(&mut self, error: &TransportError) {
        self.window.fails(error);
    }

    /// Why it has failed without anything in flight, if it has.
    pub(super) fn failure(&self) -> Option<TransportError> {
        let (error, _) = self.unsent.as_ref().filter(|_| self.window.oldest().is_none())?;
        Some(error.clone())
    }

    /// It has failed: takes out everything that it has acknowledged and that nobody has heard yet.
    pub(super) async fn take_unheard(&mut self) -> Vec<Span> {
        let Some(rows) = self.stream.durable_rows().await else { return Vec::new() };
        let mut unheard = Vec::new();
        while self.window.is_oldest_durable(rows) {
            unheard.extend(self.window.pop().map(|request| request.span));
        }
        unheard.extend(self.window.cut_oldest(rows));
        unheard
    }

    /// Ends a stream that has nothing in flight.
    pub(super) async fn close(self) {
        // Nobody waits for it any more.
        if let Some(stream) = Arc::into_inner(self.stream) {
            stream.close().await;
        }
    }
}
