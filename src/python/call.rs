//! A call of Python while it runs on the wrapper's runtime.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::completions::{Outcome, Promise};
use super::failure::Failure;
use crate::error::ErrorCode;

/// Runs a future and keeps the promise of its outcome.
///
/// The future comes first, so it is dropped first: what it holds of the caller's batch is gone before
/// the outcome is told, and Python's thread is the last to have it.
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
        // A panic is told to this caller and hurts no other call of its group.
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => outcome,
            Err(_) => {
                let reason = "the call panicked, which is a bug";
                Outcome::Failed(Failure::new(ErrorCode::Internal, reason))
            }
        };
        this.future = None;
        this.promise.settle(outcome);
        Poll::Ready(())
    }
}
