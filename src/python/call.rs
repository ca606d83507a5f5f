//! A call of Python while it runs on the wrapper's runtime.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::completions::{Outcome, Promise};

/// Runs a future and keeps the promise of its outcome.
///
/// The future comes first, so it is dropped first: what it holds of the caller's batch is gone before
/// the promise hands the batch over to Python's thread.
pub(super) struct Call {
    future: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    promise: Promise,
}

impl Call {
    pub(super) fn new(promise: Promise, future: impl Future<Output = Outcome> + Send + 'static) -> Call {
        Call { future: Some(Box::pin(future)), promise }
    }
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(future) = this.future.as_mut() else {
            return Poll::Ready(());
        };
        this.promise.is_polled = true;
        let polled = future.as_mut().poll(context);
        this.promise.is_polled = false;
        polled.map(|outcome| {
            this.future = None;
            this.promise.settle(outcome);
        })
    }
}
