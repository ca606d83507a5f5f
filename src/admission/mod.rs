//! May this batch enter the log now? Keeps the log below its quota and the file system above its floor: makes
//! senders wait in order, turns them away, or has the oldest frames dropped.
//!
//! The first in line does the asking: first the settler, to free what is settled, retained or not; then, if that
//! made no room and the user wants it, the lane, to drop what waits longest.

mod disk;
mod full;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::Either;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep};

use self::disk::Disk;
pub use self::full::Full;
use crate::config::OnFull;
use crate::demand::Demand;
use crate::io::Env;
use crate::quarantine::Quarantine;
use crate::wal::Wal;

/// What a frame may need besides its own bytes: header and footer of a segment that it begins, its schema, padding.
const OVERHEAD_BYTES: u64 = 16 * 1024;
/// Room that others make on the file system announces itself to nobody.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What may be freed without a loss is, before a batch is turned away. That is work of the disk, a few segments at
/// a time; it ends at once when there is nothing to free.
const REJECT_AFTER: Duration = Duration::from_secs(10);
/// Dropping waits for what is in flight. When even this has passed, the log cannot be read or the ledger not written.
const DROP_TIMEOUT: Duration = Duration::from_secs(30);

/// The bounds of a log, and what happens at them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) wal_max_bytes: u64,
    pub(crate) wal_min_free_bytes: u64,
    pub(crate) on_full: OnFull,
    pub(crate) block_timeout: Option<Duration>,
}

/// The gate before the log.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Whose clock wakes those who wait; they may be on any runtime, or on none.
    runtime: Handle,
    wal: Wal,
    limits: Limits,
    disk: Disk,
    /// Bytes of batches that are past the gate and not in the log yet.
    entering_bytes: Mutex<u64>,
    /// Only the first in line looks at the bounds, so that a large batch is not overtaken for ever.
    turnstile: Semaphore,
    /// What the first in line waits for.
    shortage: Mutex<Option<Full>>,
    /// The size of the batch that was refused last.
    refused_bytes: AtomicU64,
    room_made: Notify,
    /// For the settler: free what is settled.
    pub(crate) reclaims: Demand,
    /// For the lane: drop what waits longest.
    pub(crate) drops: Demand,
}

/// Why a batch may not enter; nothing was stored.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// The gate was closed.
    Closed,
    /// The policy does not let it wait, or not any longer.
    Full(Full),
}

/// Until when one batch may wait, over all its attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    deadline: Option<Instant>,
}

/// The right to append so many bytes; dropped when they are in the log, or never will be.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Admission {
    pub(crate) fn new(
        runtime: Handle,
        env: &Env,
        wal: Wal,
        directory: PathBuf,
        limits: Limits,
        quarantine: Quarantine,
    ) -> Admission {
        let (min_free_bytes, segment_bytes) = (limits.wal_min_free_bytes, wal.segment_bytes());
        Admission {
            runtime,
            wal,
            limits,
            disk: Disk::new(env.clone(), directory, min_free_bytes, segment_bytes, quarantine),
            entering_bytes: Mutex::new(0),
            turnstile: Semaphore::new(1),
            shortage: Mutex::default(),
            refused_bytes: AtomicU64::new(0),
            room_made: Notify::new(),
            reclaims: Demand::new(),
            drops: Demand::new(),
        }
    }

    /// From now on nothing that enters takes the space that is missing in a reserve, so that it can be taken back: so much
    /// in the ledger's, and what the quarantine says of its own.
    pub(crate) fn keep_reserves(&self, ledger_missing_bytes: u64) {
        self.disk.keep_reserves(ledger_missing_bytes);
    }

    /// How long a batch that comes now may wait.
    pub(crate) fn patience(&self) -> Patience {
        let limit = match self.limits.on_full {
            OnFull::Block => self.limits.block_timeout,
            OnFull::Reject => Some(REJECT_AFTER),
            OnFull::DropOldest => Some(DROP_TIMEOUT),
        };
        Patience { deadline: limit.map(|limit| Instant::now() + limit) }
    }

    /// Waits, as the policy has it, until the log has room for so many bytes. `found_full` says that an append of
    /// them has just found no space.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the gate is closed, or the policy has the batch wait no longer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue; nothing was stored.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        bytes: u64,
        patience: Patience,
        found_full: bool,
    ) -> Result<Permit, Refused> {
        if !found_full && let Some(permit) = self.enter_at_once(bytes) {
            return Ok(permit);
        }
        // In a box, as it is seldom needed: each send would be as large.
        Box::pin(self.wait_in_line(bytes, patience, found_full)).await
    }

    /// Lets so many bytes in, if nobody waits and there is room.
    pub(crate) fn enter_at_once(self: &Arc<Self>, bytes: u64) -> Option<Permit> {
        let _turn = self.turnstile.try_acquire().ok()?;
        self.admit(bytes).ok()
    }

    async fn wait_in_line(
        self: &Arc<Self>,
        bytes: u64,
        patience: Patience,
        found_full: bool,
    ) -> Result<Permit, Refused> {
        let mut found = found_full.then(|| self.disk.append_failed(bytes + OVERHEAD_BYTES));
        let Ok(turn) = self.before(patience, self.turnstile.acquire()).await else {
            let full = found.or_else(|| self.shortage()).or_else(|| self.look(bytes));
            // Without a reason, room was made in the moment in which the wait ended.
            return full.map_or_else(|| self.admit(bytes), Err).map_err(|full| self.refuse(bytes, full));
        };
        let _turn = turn.map_err(|_| Refused::Closed)?;
        let _first = FirstInLine(self);
        let mut asked = None;
        loop {
            // Registered before the look, so that room made between look and wait is not missed.
            let room_made = self.room_made.notified();
            tokio::pin!(room_made);
            room_made.as_mut().enable();
            if self.turnstile.is_closed() {
                return Err(Refused::Closed);
            }
            // A failed append knows better than what the file system says is free.
            let full = match found.clone().map_or_else(|| self.admit(bytes), Err) {
                Ok(permit) => return Ok(permit),
                Err(full) => full,
            };
            *self.lock_shortage() = Some(full.clone());
            let number = *asked.get_or_insert_with(|| self.reclaims.ask());
            let pause = self.sleep(LOOK_INTERVAL);
            let answered = self.before(patience, async {
                tokio::select! {
                    // Room is made before it is answered.
                    biased;
                    () = room_made => None,
                    succeeded = self.reclaims.answer_to(number) => Some(succeeded),
                    () = pause => None,
                }
            });
            match answered.await {
                Err(_) => return Err(self.refuse(bytes, full)),
                Ok(None) => found = None,
                Ok(Some(succeeded)) => {
                    self.after_reclaim(bytes, patience, succeeded, found.take()).await?;
                    asked = None;
                }
            }
        }
    }

    /// What the policy asks for when all that is settled was freed. Returns when it is time to look again.
    async fn after_reclaim(
        &self,
        bytes: u64,
        patience: Patience,
        succeeded: bool,
        found: Option<Full>,
    ) -> Result<(), Refused> {
        let room_made = self.room_made.notified();
        tokio::pin!(room_made);
        room_made.as_mut().enable();
        let Some(full) = found.or_else(|| self.look(bytes)) else { return Ok(()) };
        *self.lock_shortage() = Some(full.clone());
        match self.limits.on_full {
            OnFull::Block => {}
            OnFull::Reject => return Err(self.refuse(bytes, full)),
            // What cannot be recorded must not be dropped, and nothing is dropped in vain.
            OnFull::DropOldest if !succeeded || !full.is_mended_by(self.wal.bytes()) => {
                return Err(self.refuse(bytes, full));
            }
            OnFull::DropOldest => {
                self.drops.ask_once();
            }
        }
        let pause = self.sleep(LOOK_INTERVAL);
        let waited = self.before(patience, async {
            tokio::select! {
                () = room_made => {}
                () = pause => {}
            }
        });
        waited.await.map_err(|_| self.refuse(bytes, full))
    }

    fn refuse(&self, bytes: u64, full: Full) -> Refused {
        self.refused_bytes.store(bytes, Ordering::Relaxed);
        Refused::Full(full)
    }

    /// Lets so many bytes in, if there is room.
    fn admit(self: &Arc<Self>, bytes: u64) -> Result<Permit, Full> {
        let mut entering_bytes = self.entering_bytes();
        self.within_quota(*entering_bytes, bytes + OVERHEAD_BYTES)?;
        self.disk.admit(bytes + OVERHEAD_BYTES)?;
        *entering_bytes += bytes;
        Ok(Permit { admission: Arc::clone(self), bytes })
    }

    /// Why there is no room for so many bytes, if there is none.
    fn look(&self, bytes: u64) -> Option<Full> {
        let (entering_bytes, needed_bytes) = (*self.entering_bytes(), bytes + OVERHEAD_BYTES);
        self.within_quota(entering_bytes, needed_bytes).err().or_else(|| self.disk.look(needed_bytes))
    }

    fn within_quota(&self, entering_bytes: u64, needed_bytes: u64) -> Result<(), Full> {
        let (used_bytes, wal_max_bytes) = (self.wal.bytes() + entering_bytes, self.limits.wal_max_bytes);
        if used_bytes + needed_bytes <= wal_max_bytes {
            return Ok(());
        }
        Err(Full::Quota { used_bytes, needed_bytes, wal_max_bytes })
    }

    /// Why the first in line waits, if it does.
    pub(crate) fn shortage(&self) -> Option<Full> {
        self.lock_shortage().clone()
    }

    /// Why a sender waits, or why the batch that was refused last would be so again.
    pub(crate) fn why_full(&self) -> Option<Full> {
        self.shortage().or_else(|| self.look(self.refused_bytes.load(Ordering::Relaxed)))
    }

    /// What is free on the file system of the log.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes()
    }

    /// To be called after the log has become smaller.
    pub(crate) fn room_made(&self) {
        self.room_made.notify_waiters();
    }

    /// Turns away everybody who waits and everybody who comes.
    pub(crate) fn close(&self) {
        self.turnstile.close();
        self.room_made.notify_waiters();
    }

    /// Returns when no batch is between the gate and the log.
    pub(crate) async fn emptied(&self) {
        loop {
            // Registered before the look, so that a permit that ends in between is not missed.
            let room_made = self.room_made.notified();
            tokio::pin!(room_made);
            room_made.as_mut().enable();
            if *self.entering_bytes() == 0 {
                return;
            }
            room_made.await;
        }
    }

    fn before<T>(
        &self,
        patience: Patience,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, Elapsed>> {
        let _clock = self.runtime.enter();
        let limited = match patience.deadline {
            Some(deadline) => Either::Left(tokio::time::timeout_at(deadline, work)),
            None => Either::Right(work),
        };
        async {
            match limited {
                Either::Left(work) => work.await,
                Either::Right(work) => Ok(work.await),
            }
        }
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let _clock = self.runtime.enter();
        tokio::time::sleep(duration)
    }

    fn entering_bytes(&self) -> MutexGuard<'_, u64> {
        self.entering_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_shortage(&self) -> MutexGuard<'_, Option<Full>> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.admission.entering_bytes() -= self.bytes;
        self.admission.room_made();
    }
}

/// While it lives, its owner is the one that [`Admission::shortage`] is about.
struct FirstInLine<'a>(&'a Admission);

impl Drop for FirstInLine<'_> {
    fn drop(&mut self) {
        *self.0.lock_shortage() = None;
    }
}
