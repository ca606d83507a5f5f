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
use super::completions::{Outcome, Outcomes, Promise};
use super::failure::Failure;
use super::input::Given;
use super::wrapper::outcome;
use crate::telemetry::TraceContext;
use crate::wrapper::{NotStored, Started, ZerobusWrapper};

/// So many do not wait for the end of the turn, so that the runtime works beside Python.
const WAITING_MAX: usize = 128;
/// Batches of so many rows are encoded one after the other on one thread, larger ones beside each other.
const SMALL_ROWS_MAX: usize = 256;

/// What a send goes through.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) wrapper: &'a ZerobusWrapper,
    /// That of the wrapper, and of no other.
    pub(super) table: &'a Arc<str>,
    pub(super) outcomes: &'a Outcomes,
}

/// What a caller sends.
pub(super) struct Waiting {
    pub(super) token: u64,
    pub(super) given: Arc<Given>,
    /// The trace that the caller is in.
    pub(super) context: Option<TraceContext>,
}

/// A send that has not begun. What it shares with others is dropped before the promise hands the outcome over.
struct Send {
    wrapper: ZerobusWrapper,
    table: Arc<str>,
    given: Arc<Given>,
    context: Option<TraceContext>,
    promise: Promise,
}

impl Send {
    fn new(way: Way<'_>, waiting: Waiting) -> Send {
        let Waiting { token, given, context } = waiting;
        let (wrapper, table) = (way.wrapper.clone(), Arc::clone(way.table));
        Send { wrapper, table, given, context, promise: way.outcomes.promise(token) }
    }

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

/// The sends of one turn through one wrapper. Python's thread counts what they share once, and not for each, for the threads of the
/// runtime do so at the same time, and the count is in the cache of one of them.
struct Turn {
    wrapper: ZerobusWrapper,
    table: Arc<str>,
    outcomes: Outcomes,
    waiting: Vec<Waiting>,
}

impl Turn {
    fn new(way: Way<'_>) -> Turn {
        let (wrapper, table) = (way.wrapper.clone(), Arc::clone(way.table));
        Turn { wrapper, table, outcomes: way.outcomes.clone(), waiting: Vec::new() }
    }

    /// All of them, of which none is left here.
    fn take(&mut self) -> Vec<Send> {
        let way = Way { wrapper: &self.wrapper, table: &self.table, outcomes: &self.outcomes };
        self.waiting.drain(..).map(|waiting| Send::new(way, waiting)).collect()
    }

    /// Hands them to the runtime.
    fn start(self) {
        let runtime = self.wrapper.runtime();
        // Bounded by the number of sends, so it need not yield.
        runtime.spawn(unconstrained(make(self)));
    }
}

impl Drop for Turn {
    /// Those that never begin are told so, as what they promise is.
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Makes the sends of one turn.
async fn make(mut turn: Turn) {
    let sends = turn.take();
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
    /// What waits for the end of this turn, for each wrapper.
    turns: Vec<Turn>,
    /// What the callers gave, by the tokens of their calls. It is freed on Python's thread: to free a buffer that
    /// Python owns takes the GIL.
    given: HashMap<u64, Arc<Given>>,
}

impl Sends {
    /// Adds a send. Says whether it is the first of this turn, at whose end somebody has to call `start`.
    pub(super) fn add(&mut self, way: Way<'_>, waiting: Waiting) -> bool {
        self.given.insert(waiting.token, Arc::clone(&waiting.given));
        if waiting.given.rows() > SMALL_ROWS_MAX {
            Send::new(way, waiting).spawn();
            return false;
        }
        let is_first = self.turns.is_empty();
        let known = self.turns.iter().rposition(|turn| Arc::ptr_eq(&turn.table, way.table));
        let at = known.unwrap_or_else(|| {
            self.turns.push(Turn::new(way));
            self.turns.len() - 1
        });
        self.turns[at].waiting.push(waiting);
        if self.turns[at].waiting.len() == WAITING_MAX {
            self.turns.swap_remove(at).start();
        }
        is_first
    }

    /// Hands what waits to the runtime.
    pub(super) fn start(&mut self) {
        self.turns.drain(..).for_each(Turn::start);
    }

    /// Stops a send that has not ended. What it has handed to the log is finished all the same.
    pub(super) fn cancel(&self, token: u64) {
        if let Some(given) = self.given.get(&token) {
            given.cancel();
        }
    }

    /// Nobody will call `start` any more.
    pub(super) fn give_up(&mut self) {
        self.turns.clear();
    }

    /// The outcome of this call is told; not every call is a send. What it was given is to be dropped after the lock
    /// of this is gone: that may run any Python code.
    pub(super) fn ended(&mut self, token: u64) -> Option<Arc<Given>> {
        self.given.remove(&token)
    }
}
