//! The window: requests that are sent and not acknowledged, bounded in number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Parts, Span};
use crate::error::ErrorCode;
use crate::telemetry::{Contexts, Fate, Recorder, SentRequest};
use crate::transport::TransportError;
use crate::types::StreamOffset;

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) offset: StreamOffset,
    pub(super) span: Span,
    /// What the span is made of.
    pub(super) parts: Parts,
    pub(super) bytes: usize,
    pub(super) sent_at: Instant,
    /// The traces that its rows belong to.
    pub(super) contexts: Contexts,
}

impl InFlight {
    /// Whether it went to the service; a stretch without rows only waits for what was sent before it.
    fn is_sent(&self) -> bool {
        self.bytes > 0
    }
}

#[derive(Debug)]
pub(super) struct Window {
    requests: VecDeque<InFlight>,
    requests_max: usize,
    bytes: usize,
    bytes_max: usize,
    /// Rows of requests that were acknowledged on the stream.
    rows_acknowledged: u64,
    recorder: Arc<Recorder>,
    /// Why the stream has failed, for what is in flight then.
    failure: Option<(ErrorCode, String)>,
}

impl Window {
    pub(super) fn new(requests_max: usize, bytes_max: usize, recorder: Arc<Recorder>) -> Window {
        let requests = VecDeque::new();
        Window { requests, requests_max, bytes: 0, bytes_max, rows_acknowledged: 0, recorder, failure: None }
    }

    /// Whether another request may be sent, when so many with so many bytes are about to be. One always fits into an empty
    /// window, whatever its size.
    pub(super) fn has_room_beside(&self, requests: usize, bytes: usize) -> bool {
        let (requests, bytes) = (self.requests.len() + requests, self.bytes + bytes);
        requests == 0 || (requests < self.requests_max && bytes < self.bytes_max)
    }

    pub(super) fn oldest(&self) -> Option<&InFlight> {
        self.requests.front()
    }

    pub(super) fn newest(&self) -> Option<&InFlight> {
        self.requests.back()
    }

    /// What is in flight, the oldest first, without what has no rows.
    pub(super) fn spans(&self) -> impl DoubleEndedIterator<Item = Span> {
        self.requests.iter().map(|request| request.span).filter(|span| span.rows > 0)
    }

    pub(super) fn push(&mut self, mut request: InFlight) {
        request.contexts.sent(self.recorder.attempt());
        self.bytes += request.bytes;
        if request.is_sent() {
            self.recorder.sent();
        }
        self.requests.push_back(request);
    }

    /// Takes out the oldest request, which was acknowledged.
    pub(super) fn pop(&mut self) -> Option<InFlight> {
        let oldest = self.requests.pop_front()?;
        self.bytes -= oldest.bytes;
        if oldest.is_sent() {
            self.recorder.acknowledged(oldest.sent_at.elapsed());
        }
        self.tell(&oldest, &Fate::Acknowledged);
        self.rows_acknowledged += oldest.span.rows;
        Some(oldest)
    }

    /// The stream has failed, and so many of the rows that were sent on it are durable. Takes out the beginning of the
    /// oldest request, if it ends among them; whole requests are taken out by [`pop`](Window::pop) before.
    pub(super) fn cut_oldest(&mut self, durable_rows: u64) -> Option<Span> {
        let rows = durable_rows.checked_sub(self.rows_acknowledged)?;
        let oldest = self.requests.front_mut()?;
        let (done, left) = oldest.parts.split(rows)?;
        oldest.span = left;
        // It is not asked again: its stream is gone.
        oldest.parts = Parts::default();
        Some(done)
    }

    /// Whether the oldest request is durable, if so many of the rows that were sent on the stream are.
    pub(super) fn is_oldest_durable(&self, durable_rows: u64) -> bool {
        let rows = durable_rows.saturating_sub(self.rows_acknowledged);
        rows > 0 && self.oldest().is_some_and(|oldest| oldest.span.rows <= rows)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// The stream has failed, for this reason.
    pub(super) fn fails(&mut self, error: &TransportError) {
        self.failure = Some((error.code, error.message.clone()));
    }

    /// Has a span made of a request that has come to its end, if one of its frames belongs to a trace.
    fn tell(&self, request: &InFlight, fate: &Fate) {
        let Some(traced) = request.contexts.traced() else { return };
        let (Some(spans), Some((first, _))) = (self.recorder.spans(), request.span.first) else { return };
        let end = request.span.end;
        let last = if end.rows_of_next == 0 { end.through } else { end.through.next() };
        let sent = SentRequest {
            traced,
            lsns: (first, last),
            rows: request.span.rows,
            bytes: request.bytes,
            took: request.sent_at.elapsed(),
        };
        spans.request(&sent, fate);
    }

    fn tell_lost(&mut self) {
        let fate = Fate::Lost(self.failure.take());
        self.requests.iter().for_each(|request| self.tell(request, &fate));
    }

    /// Forgets all requests: the stream is gone and they will be read from the log again. Returns how many rows they
    /// had.
    pub(super) fn clear(&mut self) -> u64 {
        self.tell_lost();
        (self.bytes, self.rows_acknowledged) = (0, 0);
        self.requests.drain(..).map(|request| request.span.rows).sum()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.tell_lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: i64, bytes: usize) -> InFlight {
        InFlight {
            offset: StreamOffset::new(number),
            span: Span { rows: 7, ..Span::default() },
            parts: Parts::default(),
            bytes,
            sent_at: Instant::now(),
            contexts: Contexts::default(),
        }
    }

    #[tokio::test]
    async fn the_window_is_bounded_in_requests_and_bytes() {
        let mut window = Window::new(3, 100, Arc::default());
        assert!(
            !window.has_room_beside(1, 100) && window.has_room_beside(1, 99),
            "what is about to be sent counts"
        );
        window.push(request(0, 1000));
        assert!(!window.has_room_beside(0, 0), "over its bytes");
        window.pop();
        assert!(window.has_room_beside(0, 0));
        for number in 1..=3 {
            assert!(window.has_room_beside(0, 0));
            window.push(request(number, 10));
        }
        assert!(!window.has_room_beside(0, 0), "over its requests");
        assert_eq!(window.pop().map(|it| it.offset), Some(StreamOffset::new(1)));
        assert!(window.has_room_beside(0, 0));
        assert_eq!(window.clear(), 2 * 7);
        assert!(window.oldest().is_none());
    }
}
