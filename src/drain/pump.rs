//! One stream: the window is kept full until the stream has to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::dropping::{PATIENCE, out_of_patience};
use super::failing::Failure;
use super::fed::{Fed, FeedError, Request};
use super::inflight::InFlight;
use super::lane::Delivery;
use super::recipe::Recipe;
use super::requests::Requests;
use super::staged::recorded;
use super::{Parts, Span};
use crate::deaths::{Death, reached};
use crate::error::ErrorCode;
use crate::ledger::RecordedStream;
use crate::telemetry::Contexts;
use crate::transport::{Stream, TransportError};
use crate::types::StreamOffset;

/// An acknowledgement takes half a second at most times; a minute without one means that the stream
/// is gone and nobody told us.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(60);

impl Delivery {
    /// Keeps the window full until the stream has to end; returns the request that needs another one.
    pub(super) async fn pump(
        &mut self,
        stream: Box<dyn Stream>,
        first: Request,
        requests: &mut Requests,
    ) -> Result<Option<Request>, Failure> {
        // It is empty; what it counted was about another stream.
        self.window.clear();
        self.next_offset = self.lane.acknowledged.borrow().streams.current.as_ref().map(|it| it.next);
        let ended = self.pump_stream(stream.as_ref(), first, requests).await;
        match &ended {
            Ok(_) | Err(Failure::Schema(..) | Failure::Altered(_)) => stream.close().await,
            // What it has acknowledged and nobody has heard yet is not sent again.
            Err(Failure::Stream(_)) => {
                if let Some(rows) = stream.durable_rows().await {
                    self.acknowledge_rows(rows);
                }
            }
            Err(Failure::Other(_)) if self.window.oldest().is_none() => stream.close().await,
            Err(Failure::Other(_)) => {}
        }
        ended
    }

    async fn pump_stream(
        &mut self,
        stream: &dyn Stream,
        first: Request,
        requests: &mut Requests,
    ) -> Result<Option<Request>, Failure> {
        let plan = Arc::clone(&first.plan);
        let old_age = Instant::now() + self.lane.settings.stream_max_age;
        // Set once nothing more may be sent on this stream: what comes after the last acknowledgement.
        let mut ending: Option<Ending> = None;
        // Set while the oldest frames are to be dropped: when those in flight are no longer waited for.
        let mut give_up: Option<Instant> = None;
        // On a slow line the last of a full window waits for all before it: progress counts, not its age.
        let mut last_progress = Instant::now();
        let mut settler = self.lane.settler.clone();
        self.hand_over(stream, first).await.map_err(Failure::Stream)?;
        loop {
            let oldest = self.window.oldest().map(|it| (it.offset, it.sent_at.max(last_progress)));
            if oldest.is_none()
                && self.staged.is_empty()
                && let Some(after) = ending
            {
                return after;
            }
            if oldest.is_none() && give_up.take().is_some() {
                let has_unstaged = self.unstage();
                if self.lane.drop_oldest().await || has_unstaged {
                    *requests = self.requests();
                }
                if self.is_used_up() {
                    return Ok(None);
                }
            }
            tokio::select! {
                biased;
                acknowledged = acknowledgement(stream, oldest) => {
                    acknowledged.map_err(Failure::Stream)?;
                    last_progress = Instant::now();
                    self.acknowledge_oldest();
                }
                () = self.lane.admission.drops.wanted(), if give_up.is_none() => {
                    give_up = Some(Instant::now() + PATIENCE);
                }
                () = sleep_until(give_up.unwrap_or(old_age)), if give_up.is_some() => {
                    return Err(Failure::Other(out_of_patience()));
                }
                () = recorded(&mut settler, self.staged.number()), if give_up.is_none() => {
                    self.send_recorded(stream).await.map_err(Failure::Stream)?;
                }
                next = requests.next(), if ending.is_none() && give_up.is_none() && self.has_room() => {
                    ending = self.take(next, stream, &plan).await;
                }
                () = sleep_until(old_age), if ending.is_none() => ending = Some(Ok(None)),
                () = self.lane.paused(), if ending.is_none() => ending = Some(Ok(None)),
            }
        }
    }

    /// Sends what comes next, or says how the stream ends because of it.
    async fn take(
        &mut self,
        next: Result<Fed, FeedError>,
        stream: &dyn Stream,
        plan: &Arc<Recipe>,
    ) -> Option<Ending> {
        match next {
            Ok(Fed::Request(request)) if request.takes(plan) => {
                // A send that fails ends the stream only after what it has acknowledged was heard.
                self.hand_over(stream, request).await.err().map(|error| Err(Failure::Stream(error)))
            }
            // Another descriptor needs another stream; this one first gets its acknowledgements.
            Ok(Fed::Request(request)) => Some(Ok(Some(request))),
            Ok(Fed::Skipped(span)) => {
                self.pass(span);
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Whether another request may be sent. After a refusal one at a time, up to where the refused ones
    /// were.
    fn has_room(&self) -> bool {
        match self.isolation.is_careful(self.lane.acknowledged.borrow().record.settled) {
            true => self.window.oldest().is_none() && self.staged.is_empty(),
            false => self.window.has_room_beside(self.staged.len(), self.staged.bytes()),
        }
    }

    /// Whether the stream has offsets that may have been used and stand for nothing any more: then it cannot go on.
    pub(super) fn is_used_up(&self) -> bool {
        self.lane.acknowledged.borrow().streams.current.as_ref().is_some_and(RecordedStream::is_used_up)
    }

    pub(super) async fn send(&mut self, stream: &dyn Stream, request: Request) -> Result<(), TransportError> {
        let Request { payload, framed_bytes: bytes, span, parts, contexts, .. } = request;
        match stream.send(payload).await {
            Ok(offset) => {
                reached(Death::Sent);
                let sent_at = Instant::now();
                self.window.push(InFlight { offset, span, parts, bytes, sent_at, contexts });
                self.check(offset)?;
            }
            Err(error) => {
                self.unsent = Some(span);
                return Err(error);
            }
        }
        Ok(())
    }

    /// What is recorded of a request goes for the stream offset that it is recorded for.
    fn check(&mut self, offset: StreamOffset) -> Result<(), TransportError> {
        let Some(expected) = &mut self.next_offset else { return Ok(()) };
        if *expected != offset {
            let text =
                format!("the client gave a request stream offset {offset}, it is recorded for {expected}");
            return Err(TransportError::blocked(ErrorCode::Internal, text));
        }
        *expected = expected.plus(1);
        Ok(())
    }

    /// Settles a stretch without rows together with what was sent before it.
    pub(super) fn skip(&mut self, span: Span) {
        match self.window.newest().map(|it| it.offset) {
            Some(offset) => {
                let parts = Parts::default();
                let (sent_at, contexts) = (Instant::now(), Contexts::default());
                self.window.push(InFlight { offset, span, parts, bytes: 0, sent_at, contexts });
            }
            None => self.settle(&span),
        }
    }
}

/// How a stream ends: the request that needs another one, or a failure.
type Ending = Result<Option<Request>, Failure>;

/// Returns when the oldest request in flight is acknowledged, or is so for too long not.
pub(super) async fn acknowledgement(
    stream: &dyn Stream,
    oldest: Option<(StreamOffset, Instant)>,
) -> Result<(), TransportError> {
    let Some((offset, since)) = oldest else { return std::future::pending().await };
    match timeout_at(since + ACKNOWLEDGEMENT_TIMEOUT, stream.acknowledged(offset)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(TransportError::transient(
            ErrorCode::Connection,
            format!("no acknowledgement within {} s", ACKNOWLEDGEMENT_TIMEOUT.as_secs()),
        )),
    }
}
