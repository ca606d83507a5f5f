//! The sends of one turn of an event loop, handed to the runtime in one piece.
//!
//! A task for each send would wake a thread for each; in programs with many senders that costs more than the send.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::task::unconstrained;

use super::call::Call;
use super::completions::{Outcome, Promise};
use super::failure::Failure;
use super::input::Given;
use super::wrapper::outcome;
use crate::telemetry::TraceContext;
use crate::wrapper::{NotStored, Started, ZerobusWrapper};

/// So many do not wait for the end of the turn, so that the runtime works beside Python.
const WAITING_MAX: usize = 128;
/// Batches of so many rows are encoded one after the other on one thread, larger ones beside each other.
const SMALL_ROWS_MAX: usize = 256;

/// A send that has not begun. What it shares with others is dropped before the promise hands the outcome over.
pub(super) struct Send {
    pub(super) wrapper: ZerobusWrapper,
    pub(super) table: Arc<str>,
    pub(super) given: Arc<Given>,
    /// The trace that the caller is in.
    pub(super) context: Option<TraceContext>,
    pub(super) promise: Promise,
}

impl Send {
    /// Hands the batch to the log at once, if it is a simple one and nothing has to be waited for first.
    fn start(&self) -> Option<Started> {
        if self.context.is_some() || self.given.is_cancelled() {
            return None;
        }
        let (schema, frame) = self.given.frame()?;
        self.wrapper.start_frame(&schema, frame)
    }

    /// Waits for the end of what was started.
    async fn end(mut self, started: Started) {
        let outcome = match started.ended().await {
            Ok(result) => Outcome::Result(result),
            // It waits for space by itself, not before those behind it.
            Err(NotStored::Full) => return self.spawn(),
            Err(NotStored::Failed(error)) => Outcome::Failed(Failure::of(&error).about(&self.table)),
        };
        self.promise.settle(outcome);
        // Before the promise: Python's thread is the last to have what was given.
        drop(self.given);
    }

    /// Goes its own way.
    fn spawn(self) {
        self.wrapper.runtime().spawn(self.into_call());
    }

    fn into_call(self) -> Call {
        let Send { wrapper, table, given, context, promise } = self;
        Call::new(promise, async move {
            let sending = async {
                match given.checked() {
                    Ok(batch) => {
                        outcome(wrapper.send_foreign_batch(batch, context).await, Outcome::Result, &table)
                    }
                    Err(failure) => Outcome::Failed(failure.about(&table)),
                }
            };
            tokio::select! {
                biased;
                () = given.cancelled() => Outcome::Done,
                outcome = sending => outcome,
            }
        })
    }
}

/// Makes the sends of one turn.
async fn make(sends: Vec<Send>) {
    let (mut simple, others) = (Vec::with_capacity(sends.len()), FuturesUnordered::new());
    for send in sends {
        // What panics here, such as on an export with a part missing, does so on the longer way too, where that is told.
        match panic::catch_unwind(AssertUnwindSafe(|| send.start())).ok().flatten() {
            Some(started) => simple.push((started, send)),
            None => others.push(send.into_call()),
        }
    }
    let end_simple = async {
        // The log answers in the order in which it was asked.
        for (started, send) in simple {
            send.end(started).await;
        }
    };
    futures::join!(end_simple, others.collect::<()>());
}

/// The sends of one event loop whose outcome was not told yet. Used only by the thread that runs the loop.
#[derive(Default)]
pub(super) struct Sends {
    /// For the end of this turn.
    waiting: Vec<Send>,
    /// What the callers gave, by the tokens of their calls. It is freed on Python's thread: to free a buffer that
    /// Python owns takes the GIL.
    given: HashMap<u64, Arc<Given>>,
}

impl Sends {
    /// Adds a send. Says whether it is the first of this turn, at whose end somebody has to call `start`.
    pub(super) fn add(&mut self, token: u64, send: Send) -> bool {
        self.given.insert(token, Arc::clone(&send.given));
        if send.given.rows() > SMALL_ROWS_MAX {
            send.spawn();
            return false;
        }
        self.waiting.push(send);
        if self.waiting.len() == WAITING_MAX {
            self.start();
        }
        self.waiting.len() == 1
    }

    /// Hands what waits to the runtime.
    pub(super) fn start(&mut self) {
        let sends = std::mem::take(&mut self.waiting);
        if let Some(first) = sends.first() {
            // Bounded by the number of sends, so it need not yield.
            first.wrapper.runtime().spawn(unconstrained(make(sends)));
        }
    }

    /// Stops a send that has not ended. What it has handed to the log is finished all the same.
    pub(super) fn cancel(&self, token: u64) {
        if let Some(given) = self.given.get(&token) {
            given.cancel();
        }
    }

    /// Nobody will call `start` any more.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }

    /// The outcome of this call is told; not every call is a send. What it was given is to be dropped after the lock
    /// of this is gone: that may run any Python code.
    pub(super) fn ended(&mut self, token: u64) -> Option<Arc<Given>> {
        self.given.remove(&token)
    }
}
