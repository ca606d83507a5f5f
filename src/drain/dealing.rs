//! Which of several streams takes the next request, when it may go, and when another stream is opened for it.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::failing::Failure;
use super::fan::{Extent, Fan};
use super::fed::{Fed, Request};
use super::grace::Schema;
use super::recipe::Recipe;
use super::slot::Slot;
use super::{LaneState, Progress};
use crate::transport::{ErrorClass, Stream, TransportError};

/// So many times what fits into all windows may be ahead of the watermark: a stream that is slow, or gone for the minute that
/// it takes to notice, holds the others up only then.
const WINDOWS_AHEAD: usize = 4;
/// So many requests may be ahead of the watermark, whatever the windows: the ledger has room for as many ranges.
const REQUESTS_AHEAD_MAX: usize = 4_000;

/// A stream that is being opened, for requests of this plan.
pub(super) struct Opening {
    pub(super) future: BoxFuture<'static, OpenOutcome>,
    plan: Arc<Recipe>,
}

/// None if the table is another one by now.
pub(super) type OpenOutcome = Result<Option<Box<dyn Stream>>, TransportError>;

impl Fan<'_> {
    /// Sends the head, or does what has to be done so that it can be. Says whether it is gone.
    pub(super) async fn place_head(&mut self) -> bool {
        if self.is_held() || self.give_up.is_some() || !self.may_go() {
            return false;
        }
        match self.head.take() {
            Some(Fed::Skipped(span)) => self.delivery.settle(&span),
            Some(Fed::Request(request)) => match self.slot_for(&request) {
                Some(number) => {
                    if let Some(slot) = &mut self.slots[number] {
                        let acknowledgement = slot.send(number, request).await;
                        self.acknowledgements.extend(acknowledgement);
                    }
                }
                None => {
                    self.make_place(&request);
                    self.head = Some(Fed::Request(request));
                }
            },
            None => {}
        }
        self.head.is_none()
    }

    /// Whether the head may be sent now. What is next to the watermark always may: nothing comes to rest because others are
    /// ahead of it.
    fn may_go(&self) -> bool {
        let span = match &self.head {
            Some(Fed::Request(request)) => &request.span,
            Some(Fed::Skipped(span)) => span,
            None => return false,
        };
        let in_flight = self.in_flight();
        if self.is_careful() {
            return in_flight == 0;
        }
        let progress = self.delivery.lane.acknowledged.borrow();
        let Progress { record, ranges, .. } = &*progress;
        let windows = self.slots.len() * self.delivery.lane.settings.max_inflight_requests;
        let ahead_max = (WINDOWS_AHEAD * windows).min(REQUESTS_AHEAD_MAX);
        span.start <= record.settled || ranges.requests() as usize + in_flight < ahead_max
    }

    /// The stream with the least to do, of those that take such a request and have room.
    fn slot_for(&self, request: &Request) -> Option<usize> {
        let takes = |slot: &Slot| slot.takes(request) && slot.has_room();
        let open = self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number, slot.as_ref()?)));
        open.filter(|(_, slot)| takes(slot))
            .min_by_key(|(_, slot)| slot.in_flight())
            .map(|(number, _)| number)
    }

    /// No open stream takes the request now: opens one for it, or ends one that is open for others.
    fn make_place(&mut self, request: &Request) {
        if self.slots.iter().any(Option::is_none) {
            if self.opening.is_none() && self.pause.is_none() {
                self.open(request);
            }
            return;
        }
        let slots = || self.slots.iter().flatten();
        if slots().any(|slot| slot.is_ending || slot.takes(request)) {
            return;
        }
        if let Some(slot) = self.slots.iter_mut().flatten().min_by_key(|slot| slot.in_flight()) {
            slot.is_ending = true;
        }
    }

    fn open(&mut self, request: &Request) {
        let lane = &self.delivery.lane;
        if self.slots.iter().all(Option::is_none) && lane.status.borrow().failure.is_none() {
            lane.set_state(LaneState::Connecting);
        }
        let (transport, table) = (Arc::clone(&lane.transport), Arc::clone(&lane.table));
        let (format, table_version) = (request.format().clone(), self.requests.table_version());
        let future = Box::pin(async move {
            if table.reread().await.version != table_version {
                return Ok(None);
            }
            transport.open(&format).await.map(Some)
        });
        self.opening = Some(Opening { future, plan: Arc::clone(&request.plan) });
    }

    pub(super) fn opened(&mut self, outcome: OpenOutcome) {
        let Some(Opening { plan, .. }) = self.opening.take() else { return };
        let lane = &self.delivery.lane;
        match outcome {
            Ok(Some(stream)) => {
                lane.status.send_modify(|status| status.streams_opened += 1);
                lane.grace.accepted(|it| matches!(it, Schema::Stream(refused) if *refused == *plan.format()));
                let failures = lane.status.borrow().failures;
                let count = self.slots.len() as u32;
                if let Some(number) = self.slots.iter().position(Option::is_none) {
                    // Those that were opened together do not end together.
                    let old_age = lane.settings.stream_max_age * (2 * count - number as u32) / (2 * count);
                    self.slots[number] = Some(Slot::new(stream, plan, lane, old_age, failures));
                }
            }
            Ok(None) => self.begin_anew(),
            Err(error) if error.class == ErrorClass::Poison => {
                if !lane.table.distrust() {
                    let schema = Schema::Stream(plan.format().clone());
                    self.fail(Failure::Schema(schema, error), Extent::Everything);
                }
                self.begin_anew();
            }
            Err(error) => self.fail(Failure::Other(error), Extent::Opening),
        }
    }
}
