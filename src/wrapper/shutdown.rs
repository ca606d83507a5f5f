//! Shutting down: stop intake, drain for a while, make the ledger durable, give the log back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::delivery::{self, Awaited};
use super::{DeliveryError, Inner, ShutdownError};

/// The tasks of a wrapper, in the order in which they end.
#[derive(Debug)]
pub(super) struct Tasks {
    pub(super) lane: JoinHandle<()>,
    pub(super) settler: JoinHandle<()>,
    pub(super) adoption: Option<Adoption>,
}

/// The task that drains logs of the dead.
#[derive(Debug)]
pub(super) struct Adoption {
    pub(super) closing: watch::Sender<bool>,
    pub(super) task: JoinHandle<()>,
}

impl Adoption {
    /// Goes on with the log that is adopted for as long as a shutdown may take, then gives it back.
    async fn end(self) {
        self.closing.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a background task ended early");
        }
    }
}

pub(super) async fn shutdown(inner: Arc<Inner>) -> Result<(), ShutdownError> {
    inner.check_process()?;
    inner.is_closed.store(true, Ordering::Release);
    let mut stopped = inner.stopped.subscribe();
    let tasks = inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(tasks) = tasks {
        // A task of its own, so that a caller who goes away does not leave it half done.
        inner.runtime.handle().spawn(stop(Arc::clone(&inner), tasks));
    }
    match stopped.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Err(reason))) => Err(ShutdownError::Unclean { reason: reason.clone() }),
        _ => Ok(()),
    }
}

async fn stop(inner: Arc<Inner>, tasks: Tasks) {
    inner.admission.close();
    let adoption = async {
        if let Some(adoption) = tasks.adoption {
            adoption.end().await;
        }
    };
    tokio::join!(drain(&inner), adoption);
    inner.stop.send_replace(true);
    for task in [tasks.lane, tasks.settler] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a background task ended early");
        }
    }
    let wal = inner.wal.clone();
    let debug_files = async {
        if let Some(debug_files) = &inner.debug_files {
            debug_files.close().await;
        }
    };
    let (closed, ()) = tokio::join!(spawn_blocking(move || wal.close()), debug_files);
    inner
        .stopped
        .send_replace(Some(closed.map_err(|error| error.to_string()).and_then(|()| verdict(&inner))));
}

/// Whether everything that was promised is on the disk.
fn verdict(inner: &Inner) -> Result<(), String> {
    let (last, durable) = (inner.stored.last(), inner.wal.durable());
    if let Some(reason) = inner.wal.poisoned()
        && last > durable
    {
        return Err(format!("frames {} to {last} were never synced: {reason}", durable.next()));
    }
    match &inner.settler.borrow().failure {
        Some(reason) => {
            Err(format!("what was delivered last is delivered again after the next start: {reason}"))
        }
        None => Ok(()),
    }
}

/// Delivers what is left, for as long as that is allowed and makes sense: a destination that refuses us
/// will not change its mind while we wait.
async fn drain(inner: &Inner) {
    let failures_before = inner.lane.borrow().failures;
    let mut lane = inner.lane.clone();
    inner.nudge.notify_one();
    let patient = async {
        // What has passed the gate will be in the log, whether its sender waits for it or not.
        inner.admission.emptied().await;
        let last = inner.stored.last();
        loop {
            lane.mark_unchanged();
            match delivery::settled(inner, Awaited::UpTo(last), failures_before).await {
                // An outage may pass within the time allowed.
                Err(DeliveryError::RetryExhausted { .. }) if lane.changed().await.is_ok() => {}
                Err(error @ DeliveryError::Paused { .. }) => {
                    tracing::warn!(reason = %error, "the wrapper is shut down without delivering what waits");
                    return;
                }
                _ => return,
            }
        }
    };
    // What is left stays in the log for the next start and is no error.
    let _ = tokio::time::timeout(inner.settings.shutdown_timeout, patient).await;
}

impl Drop for Inner {
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            return;
        }
        self.stop.send_replace(true);
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks {
            tasks.lane.abort();
            tasks.settler.abort();
            if let Some(adoption) = tasks.adoption {
                adoption.task.abort();
            }
            self.wal.close();
        }
    }
}
