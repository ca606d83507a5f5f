//! May this batch enter the log now? Keeps the log below its quota by making senders wait, in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::wal::Wal;

/// The gate before the log.
#[derive(Debug)]
pub(crate) struct Admission {
    wal: Wal,
    wal_bytes_max: u64,
    /// Bytes of batches that are past the gate and not in the log yet.
    entering_bytes: Mutex<u64>,
    /// Only the first in line looks at the quota, so that a large batch is not overtaken for ever.
    turnstile: Semaphore,
    waiting: AtomicUsize,
    room_made: Notify,
    room_wanted: Notify,
}

/// The gate was closed while a batch waited before it; nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GateClosed;

/// The right to append so many bytes; dropped when they are in the log, or never will be.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Admission {
    pub(crate) fn new(wal: Wal, wal_bytes_max: u64) -> Admission {
        Admission {
            wal,
            wal_bytes_max,
            entering_bytes: Mutex::new(0),
            turnstile: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            room_made: Notify::new(),
            room_wanted: Notify::new(),
        }
    }

    /// Waits until the log has room for so many bytes.
    ///
    /// # Errors
    ///
    /// [`GateClosed`] if the gate is closed, or is closed meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue; nothing was stored.
    pub(crate) async fn enter(self: &Arc<Self>, bytes: u64) -> Result<Permit, GateClosed> {
        let _waiting = Waiting::new(&self.waiting);
        let _turn = self.turnstile.acquire().await.map_err(|_| GateClosed)?;
        loop {
            // Registered before the look, so that room made between look and wait is not missed.
            let room_made = self.room_made.notified();
            tokio::pin!(room_made);
            room_made.as_mut().enable();
            if self.turnstile.is_closed() {
                return Err(GateClosed);
            }
            {
                let mut entering_bytes = self.entering_bytes();
                if self.wal.bytes() + *entering_bytes + bytes <= self.wal_bytes_max {
                    *entering_bytes += bytes;
                    return Ok(Permit { admission: Arc::clone(self), bytes });
                }
            }
            self.room_wanted.notify_one();
            room_made.await;
        }
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_full(&self) -> bool {
        // The first in line counts itself also while it passes; that costs at most an early roll.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// To be called after the log has become smaller.
    pub(crate) fn room_made(&self) {
        self.room_made.notify_waiters();
    }

    /// Returns when a sender has found the log full.
    pub(crate) async fn room_wanted(&self) {
        self.room_wanted.notified().await;
    }

    /// Turns away everybody who waits and everybody who comes.
    pub(crate) fn close(&self) {
        self.turnstile.close();
        self.room_made.notify_waiters();
    }

    fn entering_bytes(&self) -> MutexGuard<'_, u64> {
        self.entering_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.admission.entering_bytes() -= self.bytes;
        self.admission.room_made();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Waiting<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
