//! Makes acknowledgements durable in the ledger, then frees what they settle.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Progress;
use crate::admission::Admission;
use crate::error::chain;
use crate::ledger::Ledger;
use crate::wal::Wal;

const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A fully settled open segment is given back once it holds this much; below it, the disk it takes is not
/// worth a new file.
const ROLL_BYTES: u64 = 1024 * 1024;

/// What is settled, and what keeps it from moving on.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettlerStatus {
    /// Durable in the ledger.
    pub(crate) settled: Progress,
    /// Why the last checkpoint or reclaim failed.
    pub(crate) failure: Option<String>,
    pub(crate) failures_in_a_row: u32,
}

/// Records what the lane has delivered.
pub(crate) struct Settler {
    pub(crate) ledger: Ledger,
    pub(crate) wal: Wal,
    pub(crate) admission: Arc<Admission>,
    pub(crate) acknowledged: watch::Receiver<Progress>,
    pub(crate) status: watch::Sender<SettlerStatus>,
}

impl Settler {
    /// Works until the lane is gone and its last acknowledgement is settled, or cannot be.
    pub(crate) async fn run(mut self) {
        loop {
            let is_last = tokio::select! {
                changed = self.acknowledged.changed() => changed.is_err(),
                () = self.admission.room_wanted() => false,
            };
            if is_last && !self.is_behind() {
                return;
            }
            let Some(back) = self.settle().await else { return };
            self = back;
            if let Some(reason) = &self.status.borrow().failure {
                tracing::warn!(%reason, "settling failed");
            }
            if self.status.borrow().failure.is_some() {
                if is_last {
                    return;
                }
                sleep(RETRY_DELAY).await;
                self.acknowledged.mark_changed();
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.status.borrow().settled != *self.acknowledged.borrow()
    }

    /// One group: everything that was acknowledged up to now.
    async fn settle(mut self) -> Option<Settler> {
        let worked = spawn_blocking(move || {
            let failure = self.checkpoint().and_then(|()| self.reclaim()).err();
            self.status.send_modify(|status| {
                status.failures_in_a_row =
                    if failure.is_some() { status.failures_in_a_row.saturating_add(1) } else { 0 };
                status.failure = failure;
            });
            self
        });
        worked.await.inspect_err(|error| tracing::error!(%error, "the settler ended")).ok()
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        let progress = *self.acknowledged.borrow_and_update();
        if self.status.borrow().settled == progress {
            return Ok(());
        }
        self.ledger.checkpoint(&progress).map_err(|error| chain(&error))?;
        self.status.send_modify(|status| status.settled = progress);
        Ok(())
    }

    fn reclaim(&self) -> Result<(), String> {
        // [I5] Only what the durable ledger says.
        let settled = self.status.borrow().settled.settled.through;
        let roll_bytes = if self.admission.is_full() { 1 } else { ROLL_BYTES };
        let reclaimed = self
            .wal
            .reclaim(settled, roll_bytes)
            .map_err(|error| format!("cannot reclaim settled segments: {error}"))?;
        if reclaimed.bytes > 0 {
            self.admission.room_made();
        }
        Ok(())
    }
}
