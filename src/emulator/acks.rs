//! What of a stream is durable, and when its client is told so: at once, unless a rule delays or withholds it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use super::faults::{Fault, Faults, Occasion};
use super::writer::{Failure, Progress};
use crate::types::TableName;

/// The acknowledgements of one stream.
pub(super) struct Acks {
    table: TableName,
    faults: Arc<Faults>,
    progress: Arc<watch::Sender<Progress>>,
    durable: watch::Receiver<Progress>,
    /// The newest offset that was told, or is delayed.
    newest: i64,
    /// A rule wants no acknowledgement any more.
    is_silent: bool,
    /// What a rule delays, and when each is due.
    delayed: VecDeque<(Instant, i64)>,
}

impl Acks {
    /// Of a stream to this table, for what becomes durable from now on.
    pub(super) fn new(table: TableName, faults: Arc<Faults>, progress: Arc<watch::Sender<Progress>>) -> Acks {
        let mut durable = progress.subscribe();
        let newest = durable.borrow().durable;
        // It may have been told something before we listened.
        durable.mark_changed();
        Acks { table, faults, progress, durable, newest, is_silent: false, delayed: VecDeque::new() }
    }

    /// Where the writer tells what is durable.
    pub(super) fn progress(&self) -> Arc<watch::Sender<Progress>> {
        Arc::clone(&self.progress)
    }

    /// Everything up to this offset is as good as durable: it goes nowhere. False if the stream has failed.
    pub(super) fn discard(&self, offset: i64) -> bool {
        self.progress.send_if_modified(|progress| {
            let goes_on = progress.failure.is_none();
            if goes_on {
                progress.durable = offset;
            }
            goes_on
        })
    }

    pub(super) fn is_durable(&self, offset: i64) -> bool {
        self.durable.borrow().durable >= offset
    }

    /// Returns when the writer has told something new.
    pub(super) async fn changed(&mut self) -> Result<(), Status> {
        self.durable.changed().await.map_err(|_| Status::internal("the writer has gone"))
    }

    /// The offset that the client is to be told now, if there is one; and why the stream has to end, if it has to.
    pub(super) fn next(&mut self) -> (Option<i64>, Result<(), Status>) {
        let Progress { durable, failure } = self.durable.borrow_and_update().clone();
        let end = match failure {
            Some(Failure::NotCommitted(reason)) => {
                Err(Status::internal(format!("rows could not be committed: {reason}")))
            }
            Some(Failure::Fenced) => Err(Status::aborted("the stream was resumed elsewhere, or retired")),
            None => Ok(()),
        };
        if durable <= self.newest || self.is_silent {
            return (None, end);
        }
        let delay = match self.faults.strike(Occasion::Ack, Some(&self.table)) {
            Some(Fault::WithholdAcks {}) => {
                self.is_silent = true;
                return (None, end);
            }
            Some(Fault::DelayAcks { delay_ms }) => Some(Instant::now() + Duration::from_millis(delay_ms)),
            _ => None,
        };
        self.newest = durable;
        // It may not overtake one that is delayed.
        match delay.max(self.delayed.back().map(|(due, _)| *due)) {
            Some(due) => {
                self.delayed.push_back((due, durable));
                (None, end)
            }
            None => (Some(durable), end),
        }
    }

    /// When the next delayed one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.delayed.front().map(|(due, _)| *due)
    }

    /// The offset of the next delayed one.
    pub(super) fn pop_delayed(&mut self) -> Option<i64> {
        self.delayed.pop_front().map(|(_, offset)| offset)
    }

    /// Nothing is told any more.
    pub(super) fn silence(&mut self) {
        self.is_silent = true;
        self.delayed.clear();
    }
}
