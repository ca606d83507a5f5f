//! Several streams at a time: what happens next on them, and what becomes of what one of them loses. Who takes the next
//! request is another question (`dealing.rs`).
//!
//! ```text
//!                      ┌─► slot: stream, window ─┐
//!  log ─► feed ─► head ┼─► slot: stream, window ─┼─► acknowledgements, in any order ─► watermark, ranges above it
//!           ▲          └─► slot: stream, window ─┘
//!           └── after a failure: from the watermark on, past what is settled or in flight elsewhere
//! ```
//!
//! Everything happens in one task. There is one request in hand, the head; all before it in the log are settled or in flight. A
//! stream is opened only when those that are open are full, and one at a time, so a service that refuses streams is asked
//! as often as by a lane with one of them.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::dealing::{OpenOutcome, Opening};
use super::dropping::{PATIENCE, out_of_patience};
use super::failing::Failure;
use super::fed::{Fed, FeedError};
use super::lane::Delivery;
use super::requests::Requests;
use super::slot::{Acknowledgement, Slot};
use super::{LaneState, Span};
use crate::deaths::{Death, reached};
use crate::error::ErrorCode;
use crate::transport::{ErrorClass, TransportError};

/// The streams of a lane, and what they wait for.
pub(super) struct Fan<'a> {
    pub(super) delivery: &'a mut Delivery,
    pub(super) slots: Vec<Option<Slot>>,
    /// One for each slot with something in flight.
    pub(super) acknowledgements: FuturesUnordered<Acknowledgement>,
    pub(super) opening: Option<Opening>,
    closing: FuturesUnordered<BoxFuture<'static, ()>>,
    pub(super) requests: Requests,
    pub(super) head: Option<Fed>,
    /// Why there is no head; told when nothing is in flight.
    ending: Option<Failure>,
    pub(super) pause: Option<Pause>,
    /// Set while the oldest frames are to be dropped: when those in flight are no longer waited for.
    pub(super) give_up: Option<Instant>,
    /// Somebody has paused delivery.
    is_paused: bool,
}

/// The wait after a failure.
pub(super) struct Pause {
    until: Instant,
    state: LaneState,
    extent: Extent,
}

/// What waits after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// Nothing that does not wait already.
    Nothing,
    /// No stream is opened.
    Opening,
    /// Nothing is sent either, for it is the next request that cannot be.
    Everything,
}

/// What happens next.
enum Event {
    Acknowledged(usize, Result<(), TransportError>),
    DropWanted,
    Opened(OpenOutcome),
    Closed,
    Fed(Result<Fed, FeedError>),
    Time,
    Nudged,
    PauseTurned,
}

impl<'a> Fan<'a> {
    pub(super) fn new(delivery: &'a mut Delivery) -> Fan<'a> {
        let requests = delivery.requests();
        let mut slots = Vec::new();
        slots.resize_with(delivery.lane.settings.streams, || None);
        Fan {
            delivery,
            slots,
            acknowledgements: FuturesUnordered::new(),
            opening: None,
            closing: FuturesUnordered::new(),
            requests,
            head: None,
            ending: None,
            pause: None,
            give_up: None,
            is_paused: false,
        }
    }

    pub(super) async fn run(mut self) -> Infallible {
        self.settle_persistent().await;
        loop {
            if self.is_paused {
                self.slots.iter_mut().flatten().for_each(|slot| slot.is_ending = true);
            }
            self.end_slots().await;
            if self.in_flight() == 0 {
                self.at_rest().await;
            }
            if self.place_head().await {
                continue;
            }
            match self.next_event().await {
                Event::Acknowledged(slot, Ok(())) => self.acknowledged(slot),
                Event::Acknowledged(slot, Err(error)) => self.lose(slot, Failure::Stream(error)).await,
                Event::DropWanted => self.give_up = Some(Instant::now() + PATIENCE),
                Event::Opened(outcome) => self.opened(outcome),
                Event::Closed => {}
                Event::Fed(Ok(fed)) => self.head = Some(fed),
                Event::Fed(Err(error)) => self.ending = Some(error.into()),
                Event::Time => self.time_has_come().await,
                Event::Nudged => {
                    self.delivery.backoff_step = 0;
                    self.end_pause();
                }
                Event::PauseTurned => self.pause_turned(),
            }
        }
    }

    /// What an earlier owner has sent on a persistent stream is settled, as far as it is committed, before anything is sent.
    async fn settle_persistent(&mut self) {
        let longest = self.delivery.lane.settings.retry_max_delay;
        loop {
            self.delivery.rest_while_paused().await;
            match self.delivery.fence().await {
                Ok(None) => break,
                Ok(Some((stream, _))) => stream.close().await,
                Err(Failure::Stream(error) | Failure::Other(error) | Failure::Altered(error))
                | Err(Failure::Schema(_, error)) => self.delivery.wait_after(error, longest).await,
            }
        }
        self.begin_anew();
    }

    async fn next_event(&mut self) -> Event {
        let wakes_at = self.wakes_at();
        let pulls = self.pulls();
        let lane = &self.delivery.lane;
        let opening = async {
            match &mut self.opening {
                Some(opening) => (&mut opening.future).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some((slot, outcome)) = self.acknowledgements.next() => Event::Acknowledged(slot, outcome),
            () = lane.admission.drops.wanted(), if self.give_up.is_none() => Event::DropWanted,
            outcome = opening => Event::Opened(outcome),
            Some(()) = self.closing.next() => Event::Closed,
            fed = self.requests.next(), if pulls => Event::Fed(fed),
            () = sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => Event::Time,
            () = lane.nudge.notified(), if self.pause.is_some() => Event::Nudged,
            () = lane.pause_is(!self.is_paused) => Event::PauseTurned,
        }
    }

    /// Somebody has paused delivery, or has ended that.
    fn pause_turned(&mut self) {
        self.is_paused = !self.is_paused;
        if !self.is_paused {
            self.delivery.backoff_step = 0;
            let state = self.pause.as_ref().map_or(LaneState::Idle, |pause| pause.state);
            self.delivery.lane.set_state(state);
            self.end_pause();
        }
    }

    /// Whether the next request is wanted. While refused rows are looked for it is made when the one before is settled.
    fn pulls(&self) -> bool {
        let is_its_turn = !self.is_careful() || self.in_flight() == 0;
        self.head.is_none()
            && self.ending.is_none()
            && self.give_up.is_none()
            && !self.is_held()
            && is_its_turn
    }

    /// Whether nothing may be sent now.
    pub(super) fn is_held(&self) -> bool {
        self.is_paused || self.is_stuck()
    }

    /// Whether it is the next request that cannot be sent.
    fn is_stuck(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.extent == Extent::Everything)
    }

    fn wakes_at(&self) -> Option<Instant> {
        let old_ages = self.slots.iter().flatten().filter_map(Slot::old_age);
        old_ages.chain(self.pause.as_ref().map(|pause| pause.until)).chain(self.give_up).min()
    }

    async fn time_has_come(&mut self) {
        let now = Instant::now();
        for slot in self.slots.iter_mut().flatten() {
            slot.is_ending |= slot.old_age().is_some_and(|old_age| old_age <= now);
        }
        if self.pause.as_ref().is_some_and(|pause| pause.until <= now) {
            self.end_pause();
        }
        if self.give_up.is_some_and(|give_up| give_up <= now) {
            // They are dropped with the rest, and may have landed.
            for slot in 0..self.slots.len() {
                if self.slots[slot].as_ref().is_some_and(|slot| slot.in_flight() > 0) {
                    self.lose(slot, Failure::Other(out_of_patience())).await;
                }
            }
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.iter().flatten().map(Slot::in_flight).sum()
    }

    pub(super) fn is_careful(&self) -> bool {
        self.delivery.isolation.is_careful(self.delivery.lane.acknowledged.borrow().record.settled)
    }

    /// Requests are made anew: of everything that is neither settled nor in flight.
    pub(super) fn begin_anew(&mut self) {
        let in_flight = self.slots.iter().flatten().flat_map(Slot::spans);
        self.requests = self.delivery.requests_beside(in_flight);
        (self.head, self.ending) = (None, None);
    }

    /// Closes what has nothing in flight and is not to go on.
    async fn end_slots(&mut self) {
        for number in 0..self.slots.len() {
            let Some(slot) = &self.slots[number] else { continue };
            if let Some(error) = slot.failure() {
                self.lose(number, Failure::Stream(error)).await;
            } else if slot.is_ending && slot.in_flight() == 0 {
                self.closing.extend(self.slots[number].take().map(|slot| Box::pin(slot.close()) as _));
            }
        }
    }

    /// Nothing is in flight: it is the time for what needs that.
    async fn at_rest(&mut self) {
        if self.give_up.take().is_some() && self.delivery.lane.drop_oldest().await {
            // What was refused may be among it; then there is no reason to wait.
            if self.pause.as_ref().is_some_and(|pause| pause.state == LaneState::Poison) {
                self.end_pause();
            }
            self.begin_anew();
        }
        if let Some(failure) = self.ending.take() {
            // What does not fit the table as it was may fit it as it is.
            let is_outdated = failure.error().code == ErrorCode::Conversion
                && self.delivery.lane.is_outdated(self.requests.table_version()).await;
            if !is_outdated {
                self.fail(failure, Extent::Everything);
            }
            self.begin_anew();
        }
        if self.is_paused {
            if self.delivery.lane.status.borrow().state != LaneState::Paused {
                self.delivery.lane.set_state(LaneState::Paused);
            }
            return;
        }
        let is_open = self.opening.is_some() || self.head.is_some();
        if !is_open && self.delivery.lane.status.borrow().failure.is_none() {
            self.delivery.lane.set_state(LaneState::Idle);
        }
    }

    fn acknowledged(&mut self, number: usize) {
        let Some(slot) = &mut self.slots[number] else { return };
        let span = slot.acknowledge_oldest();
        reached(Death::Acknowledged);
        self.acknowledgements.extend(slot.acknowledgement(number));
        let failures_before = slot.failures_before;
        self.progressed(failures_before);
        if let Some(span) = span {
            self.delivery.settle(&span);
        }
    }

    /// Something is acknowledged: what failed before has passed, unless it is the next request that cannot be sent.
    fn progressed(&mut self, failures_before: u64) {
        let is_idle = self.in_flight() == 0;
        // A stream that was open before the last failure says nothing about the next one that is opened.
        if self.delivery.lane.status.borrow().failures == failures_before {
            self.delivery.backoff_step = 0;
            self.delivery.is_fresh_token_tried = false;
        }
        if self.is_stuck() {
            return;
        }
        self.delivery.lane.status.send_modify(|status| {
            status.state = if is_idle { LaneState::Idle } else { LaneState::Streaming };
            status.failure = None;
            status.failures_in_a_row = 0;
        });
    }

    /// A stream has failed. What it had in flight is sent again, on any stream.
    async fn lose(&mut self, number: usize, failure: Failure) {
        let Some(mut slot) = self.slots[number].take() else { return };
        slot.fails(failure.error());
        // Somebody may wait for it still.
        let others = self.slots.iter().enumerate();
        self.acknowledgements =
            others.filter_map(|(number, slot)| slot.as_ref()?.acknowledgement(number)).collect();
        // One that was open before the last failure says nothing about the next one that is opened.
        let is_news = slot.failures_before == self.delivery.lane.status.borrow().failures;
        // One that is given up is not asked: it has not failed.
        if matches!(failure, Failure::Stream(_)) {
            for span in slot.take_unheard().await {
                self.progressed(slot.failures_before);
                self.delivery.settle(&span);
            }
        }
        let lost: Vec<Span> = slot.spans().collect();
        let resent_rows: u64 = lost.iter().map(|span| span.rows).sum();
        self.delivery.lane.status.send_modify(|status| status.resent_rows += resent_rows);
        let settled = self.delivery.lane.acknowledged.borrow().record.settled;
        let is_alone = lost.len() == 1 && lost[0].start <= settled && self.in_flight() == 0;
        let last = if is_alone { None } else { lost.last().copied() };
        if !self.delivery.isolate(failure.error(), lost.first().copied(), last) {
            let extent = match failure.error().class {
                ErrorClass::Poison => Extent::Everything,
                _ if is_news => Extent::Opening,
                _ => Extent::Nothing,
            };
            self.fail(failure, extent);
        }
        self.begin_anew();
    }

    /// Waits as the class of the failure asks for, with this.
    pub(super) fn fail(&mut self, failure: Failure, extent: Extent) {
        let longest = self.delivery.lane.settings.retry_max_delay;
        let (error, longest) = match failure {
            Failure::Schema(schema, error) => {
                let left = self.delivery.lane.grace.refused(&schema, &error.message, Instant::now());
                if left.is_zero() {
                    return;
                }
                (error, left.min(longest))
            }
            Failure::Stream(error) | Failure::Altered(error) | Failure::Other(error) => (error, longest),
        };
        let now = Instant::now();
        let (state, delay) = match &self.pause {
            _ if extent > Extent::Nothing => self.delivery.pause_after(&error, longest),
            Some(pause) => (pause.state, pause.until.saturating_duration_since(now)),
            None => (LaneState::BackingOff, Duration::ZERO),
        };
        if extent == Extent::Everything || self.slots.iter().all(Option::is_none) {
            self.delivery.report(state, error, delay);
        } else {
            // The others go on, so there is nothing that anybody waits for.
            let retry_ms = delay.as_millis() as u64;
            tracing::info!(retry_ms, reason = %error, "one of several streams failed");
            self.delivery.lane.recorder.failed(error.class);
            self.delivery.lane.status.send_modify(|status| status.failures += 1);
        }
        if extent > Extent::Nothing && self.pause.as_ref().is_none_or(|pause| pause.extent <= extent) {
            self.pause = Some(Pause { until: now + delay, state, extent });
        }
    }

    fn end_pause(&mut self) {
        let Some(pause) = self.pause.take() else { return };
        if pause.state == LaneState::Poison {
            self.delivery.isolation.reconsider();
        }
        if pause.extent == Extent::Everything {
            self.begin_anew();
        }
    }
}
