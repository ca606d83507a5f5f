//! Requests for a persistent stream on their way to it: what each holds is durable in the ledger before its first byte is
//! sent. Those that wait are recorded together.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::fed::Request;
use super::lane::Delivery;
use super::settle::SettlerStatus;
use super::{Progress, Span};
use crate::deaths::{Death, reached};
use crate::transport::{Stream, TransportError};

/// What waits for its record.
#[derive(Debug, Default)]
pub(super) struct Staged {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    /// The settler has recorded it when it has come to this number.
    number: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Send(Request),
    /// A stretch without rows.
    Pass(Span),
}

impl Staged {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number that the first of them waits for.
    pub(super) fn number(&self) -> Option<u64> {
        self.waiting.front().map(|first| first.number)
    }

    fn push(&mut self, number: u64, what: What) {
        if let What::Send(request) = &what {
            self.bytes += request.framed_bytes;
        }
        self.waiting.push_back(Waiting { number, what });
    }

    /// Takes out the first one, if it is recorded.
    fn pop(&mut self, recorded: u64) -> Option<What> {
        self.waiting.front().filter(|first| first.number <= recorded)?;
        let Waiting { what, .. } = self.waiting.pop_front()?;
        if let What::Send(request) = &what {
            self.bytes -= request.framed_bytes;
        }
        Some(what)
    }

    pub(super) fn clear(&mut self) {
        *self = Staged::default();
    }
}

/// Returns when the settler has recorded everything up to this number; never without one.
pub(super) async fn recorded(settler: &mut watch::Receiver<SettlerStatus>, number: Option<u64>) {
    let Some(number) = number else { return std::future::pending().await };
    // Without a settler nothing is recorded any more.
    if settler.wait_for(|status| status.recorded >= number).await.is_err() {
        std::future::pending().await
    }
}

impl Delivery {
    /// Sends a request, or lets it wait until it may be sent.
    pub(super) async fn hand_over(
        &mut self,
        stream: &dyn Stream,
        request: Request,
    ) -> Result<(), TransportError> {
        match self.record(&request.span, request.holes) {
            Some(number) => self.staged.push(number, What::Send(request)),
            // It is durable already. Such ones come before all others.
            None => self.send(stream, request).await?,
        }
        Ok(())
    }

    /// A stretch without rows is settled together with what was sent before it.
    pub(super) fn pass(&mut self, span: Span) {
        let is_alone = self.window.oldest().is_none() && self.staged.is_empty();
        match if is_alone { None } else { self.record(&span, 0) } {
            Some(number) if !self.staged.is_empty() => self.staged.push(number, What::Pass(span)),
            _ => self.skip(span),
        }
    }

    /// Sends everything that is recorded.
    pub(super) async fn send_recorded(&mut self, stream: &dyn Stream) -> Result<(), TransportError> {
        reached(Death::Recorded);
        let recorded = self.lane.settler.borrow().recorded;
        while let Some(what) = self.staged.pop(recorded) {
            match what {
                What::Send(request) => self.send(stream, request).await?,
                What::Pass(span) => self.skip(span),
            }
        }
        Ok(())
    }

    /// Adds it to what is recorded, and returns the number to wait for; none if there is nothing to wait for.
    fn record(&self, span: &Span, holes: u32) -> Option<u64> {
        let mut number = None;
        self.lane.acknowledged.send_if_modified(|Progress { streams, .. }| {
            let is_new = streams.current.as_ref().is_some_and(|current| !current.has(span.end));
            if is_new {
                number = Some(Arc::make_mut(streams).push(span.recorded(holes)));
            }
            is_new
        });
        number
    }

    /// Takes back what waits and was never sent; says whether that was anything.
    pub(super) fn unstage(&mut self) -> bool {
        let count = self.staged.len();
        if count > 0 {
            self.staged.clear();
            self.lane
                .acknowledged
                .send_modify(|progress| Arc::make_mut(&mut progress.streams).take_back(count));
        }
        count > 0
    }
}
