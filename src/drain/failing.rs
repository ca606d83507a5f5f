//! What follows from a failure: another attempt at once, because something was learnt, or a wait.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::fed::FeedError;
use super::feed::Condemned;
use super::grace::Schema;
use super::lane::Delivery;
use super::retry::backoff;
use super::{LaneState, Span};
use crate::error::ErrorCode;
use crate::quarantine::Refusal;
use crate::transport::{ErrorClass, TransportError};

/// Why a stream, or what came before it, has ended.
#[derive(Debug)]
pub(super) enum Failure {
    /// It ended with requests in flight.
    Stream(TransportError),
    /// A schema is refused as a whole.
    Schema(Schema, TransportError),
    /// What may have been sent on a persistent stream cannot be sent again as it was.
    Altered(TransportError),
    /// Anything else.
    Other(TransportError),
}

impl Failure {
    pub(super) fn error(&self) -> &TransportError {
        match self {
            Failure::Stream(error)
            | Failure::Schema(_, error)
            | Failure::Altered(error)
            | Failure::Other(error) => error,
        }
    }
}

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Failure {
        match error {
            FeedError::Schema(schema, error) => Failure::Schema(schema, error),
            FeedError::Altered(error) => Failure::Altered(error),
            other => Failure::Other(other.into()),
        }
    }
}

impl Delivery {
    /// Learns from a refusal of rows which those can be; see [`isolate`](Delivery::isolate).
    pub(super) fn isolate_in_window(&mut self, error: &TransportError) -> bool {
        let (first, last) = {
            let mut spans = self.window.spans().chain(self.unsent);
            (spans.next(), spans.next_back())
        };
        self.isolate(error, first, last)
    }

    /// Learns from a refusal of rows which those can be: those of the first request in flight, which was alone if there is no
    /// last one. False if it is no refusal, or nothing is learnt from it. If it is true
    /// there is no reason to wait: the next attempt is another one.
    pub(super) fn isolate(
        &mut self,
        error: &TransportError,
        first: Option<Span>,
        last: Option<Span>,
    ) -> bool {
        if error.class != ErrorClass::Poison {
            return false;
        }
        let is_learnt = match (first, last) {
            (Some(span), None) => span.first.is_some_and(|(lsn, row)| {
                let refusal = Refusal::new(error.code.info().name, &error.message);
                self.isolation.refused_alone(span.rows as usize, span.end, Condemned { lsn, row, refusal })
            }),
            (_, Some(last)) => self.isolation.refused_among_others(last.end),
            (None, None) => false,
        };
        if is_learnt {
            tracing::info!(reason = %error, "the service refuses rows; they are looked for");
            self.lane.status.send_modify(|status| {
                status.state = LaneState::Isolating;
                status.failure = Some(error.clone());
                status.failures += 1;
            });
        }
        is_learnt
    }

    /// [I7] So many rows that were sent on the stream that has failed are durable: whole requests, and the first rows of the
    /// next one.
    pub(super) fn acknowledge_rows(&mut self, rows: u64) {
        while self.window.is_oldest_durable(rows) {
            self.acknowledge_oldest();
        }
        if let Some(done) = self.window.cut_oldest(rows) {
            self.settle(&done);
        }
    }

    /// What the lane is and how long it waits after a failure of this class, and not longer than this.
    pub(super) fn pause_after(
        &mut self,
        failure: &TransportError,
        longest: Duration,
    ) -> (LaneState, Duration) {
        self.backoff_step = self.backoff_step.saturating_add(1);
        let settings = self.lane.settings;
        let is_refused_token =
            failure.class == ErrorClass::Blocked && failure.code == ErrorCode::Authentication;
        if is_refused_token {
            // Each probe has a token of its own: a grant that is given back may not be in the old one.
            self.lane.transport.forget_token();
        }
        let (state, delay) = match failure.class {
            // A token may have been revoked early: one fresh token at once, before this is believed.
            ErrorClass::Blocked if is_refused_token && !self.is_fresh_token_tried => {
                self.is_fresh_token_tried = true;
                (LaneState::Connecting, Duration::ZERO)
            }
            ErrorClass::Blocked => (LaneState::Blocked, settings.retry_max_delay),
            ErrorClass::Poison => (LaneState::Poison, settings.retry_max_delay),
            ErrorClass::Transient => {
                let state = match failure.code {
                    ErrorCode::Storage => LaneState::Unreadable,
                    _ => LaneState::BackingOff,
                };
                let delay = backoff(
                    self.backoff_step,
                    settings.retry_base_delay,
                    settings.retry_max_delay,
                    failure.retry_after,
                    self.lane.env.rng.as_ref(),
                );
                (state, delay)
            }
        };
        (state, delay.min(longest))
    }

    /// Waits as the class of the failure asks for, and not longer than this.
    pub(super) async fn wait_after(&mut self, failure: TransportError, longest: Duration) {
        let (state, delay) = self.pause_after(&failure, longest);
        self.report(state, failure, delay);
        let until = Instant::now() + delay;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.lane.paused() => return,
                () = self.lane.nudge.notified() => {
                    self.backoff_step = 0;
                    return;
                }
                () = self.lane.admission.drops.wanted() => {
                    // What was refused may be among it; then there is no reason to wait.
                    if self.lane.drop_oldest().await && state == LaneState::Poison {
                        return;
                    }
                }
            }
        }
    }

    pub(super) fn report(&self, state: LaneState, failure: TransportError, delay: Duration) {
        let retry_ms = delay.as_millis() as u64;
        match state {
            LaneState::Blocked | LaneState::Poison => {
                tracing::warn!(state = state.as_str(), retry_ms, reason = %failure, "delivery is parked");
            }
            _ => tracing::info!(state = state.as_str(), retry_ms, reason = %failure, "delivery failed"),
        }
        self.lane.status.send_modify(|status| {
            status.state = state;
            status.failure = Some(failure);
            status.failures_in_a_row = status.failures_in_a_row.saturating_add(1);
            status.failures += 1;
        });
    }
}
