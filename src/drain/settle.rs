//! Makes acknowledgements durable in the ledger, and what is to be sent on a persistent stream; then frees what is
//! settled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::Progress;
use crate::admission::Admission;
use crate::catalog::Known;
use crate::deaths::{Death, reached};
use crate::error::chain;
use crate::io::Env;
use crate::ledger::{CachedTable, Ledger, LedgerRecord, Ranges};
use crate::reclaim::{self, Retention};
use crate::types::TableName;
use crate::wal::Wal;

const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Acknowledgements gather for so long after a checkpoint, or until there are half as many as may be in flight: on a fast
/// line they come every millisecond, and each checkpoint is a handful of syncs, for which the log would have to wait. After a
/// crash what was gathered is sent again, as what was in flight is.
const GATHER_INTERVAL: Duration = Duration::from_millis(10);
/// A fully settled open segment is given back once it holds a quarter of what it may, and this much; below it, the
/// disk it takes is not worth another file.
const ROLL_BYTES_MIN: u64 = 1024 * 1024;
/// What is retained is looked at this often, because the time of day can be set.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// When the same columns were read again, the ledger hears of it this often.
const TABLE_INTERVAL_MICROS: i64 = 3600 * 1_000_000;
/// On a disk with less the ledger hears nothing of it: a write that fails costs the ledger its store, and a cache is not
/// worth that.
const TABLE_ROOM_BYTES: u64 = 16 * 1024 * 1024;

/// What is settled, and what keeps it from moving on.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettlerStatus {
    /// Durable in the ledger.
    pub(crate) settled: LedgerRecord,
    /// And this above its watermark.
    pub(crate) ranges: Arc<Ranges>,
    /// What is to be sent on persistent streams is durable in the ledger too, up to this number.
    pub(crate) recorded: u64,
    /// Why the last checkpoint or reclaim failed.
    pub(crate) failure: Option<String>,
    pub(crate) failures_in_a_row: u32,
}

/// Records what the lane has delivered.
pub(crate) struct Settler {
    pub(crate) env: Env,
    pub(crate) ledger: Ledger,
    pub(crate) wal: Wal,
    pub(crate) admission: Arc<Admission>,
    pub(crate) retention: Retention,
    /// When something that is retained will be old enough to be freed.
    pub(crate) next_expiry: Option<Duration>,
    pub(crate) acknowledged: watch::Receiver<Progress>,
    /// How many of the acknowledgements are durable.
    pub(crate) checkpointed: u64,
    /// The window: half as many acknowledgements may gather.
    pub(crate) max_inflight_requests: usize,
    pub(crate) table: TableToRemember,
    pub(crate) status: watch::Sender<SettlerStatus>,
}

/// The columns of the table, for the ledger.
pub(crate) struct TableToRemember {
    name: TableName,
    known: watch::Receiver<Arc<Known>>,
    /// What the ledger has of it.
    remembered: Arc<Known>,
}

impl TableToRemember {
    /// Begins with what the ledger has, which is what is known at first.
    pub(crate) fn new(name: TableName, mut known: watch::Receiver<Arc<Known>>) -> TableToRemember {
        let remembered = Arc::clone(&known.borrow_and_update());
        TableToRemember { name, known, remembered }
    }

    /// Hands the ledger what has changed.
    fn tell(&mut self, ledger: &mut Ledger, admission: &Admission) {
        let known = Arc::clone(&self.known.borrow_and_update());
        let age_micros = known.read_unix_micros.saturating_sub(self.remembered.read_unix_micros);
        if known.version == self.remembered.version && age_micros.abs() < TABLE_INTERVAL_MICROS {
            return;
        }
        if admission.free_bytes().is_some_and(|free_bytes| free_bytes < TABLE_ROOM_BYTES) {
            return;
        }
        let cached = known.schema.as_deref().map(|schema| CachedTable {
            table: self.name.clone(),
            read_unix_micros: known.read_unix_micros,
            schema: schema.clone(),
        });
        ledger.remember_table(cached.as_ref());
        self.remembered = known;
    }
}

impl Settler {
    /// Works until the lane is gone and its last acknowledgement is settled, or cannot be.
    pub(crate) async fn run(mut self) {
        // What an earlier owner has settled may be there still.
        self.acknowledged.mark_changed();
        let mut gathered = Instant::now();
        loop {
            let expiry = self.next_expiry.map(|expiry| expiry.min(RETENTION_INTERVAL));
            tokio::select! {
                // An error means that the lane is gone, which is looked at below.
                _ = self.acknowledged.changed() => {}
                Ok(()) = self.table.known.changed() => {}
                () = self.admission.reclaims.wanted() => {}
                () = sleep(expiry.unwrap_or_default()), if expiry.is_some() => {}
            }
            self.gather(gathered).await;
            let is_last = self.acknowledged.has_changed().is_err();
            let asked = self.admission.reclaims.newest();
            let Some(back) = self.settle(is_last).await else { return };
            self = back;
            gathered = Instant::now() + GATHER_INTERVAL;
            let failure = self.status.borrow().failure.clone();
            self.admission.reclaims.answer(asked, failure.is_none());
            if let Some(reason) = &failure {
                tracing::warn!(%reason, "settling failed");
            }
            if is_last {
                return;
            }
            if failure.is_some() {
                sleep(RETRY_DELAY).await;
                self.acknowledged.mark_changed();
            }
        }
    }

    /// Waits until then, unless somebody waits for the settler, or it is the last time.
    async fn gather(&mut self, until: Instant) {
        while Instant::now() < until && !self.is_pressing() {
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.admission.reclaims.wanted() => return,
                changed = self.acknowledged.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Whether requests wait to be recorded before they are sent, or enough has gathered, or nothing more will.
    fn is_pressing(&self) -> bool {
        let acknowledged = self.acknowledged.borrow();
        let gathered_max = (self.max_inflight_requests as u64 / 2).max(1);
        acknowledged.record.settled.through >= self.wal.durable()
            || acknowledged.streams.sequence != self.status.borrow().recorded
            || acknowledged.acknowledgements >= self.checkpointed + gathered_max
    }

    /// One group: everything that was acknowledged up to now.
    async fn settle(mut self, is_last: bool) -> Option<Settler> {
        let worked = spawn_blocking(move || {
            let mut recorded = self.checkpoint(is_last);
            // What was settled before may be freed in any case; on a full disk the ledger needs that.
            let mut freed = self.reclaim();
            if recorded.is_err() && freed.as_ref().is_ok_and(|bytes| *bytes > 0) {
                recorded = self.checkpoint(is_last);
                freed = self.reclaim();
            }
            self.admission.keep_reserves(self.ledger.missing_reserve_bytes());
            let failure = recorded.and(freed).err();
            self.status.send_modify(|status| {
                status.failures_in_a_row =
                    if failure.is_some() { status.failures_in_a_row.saturating_add(1) } else { 0 };
                status.failure = failure;
            });
            self
        });
        worked.await.inspect_err(|error| tracing::error!(%error, "the settler ended")).ok()
    }

    fn checkpoint(&mut self, is_last: bool) -> Result<(), String> {
        let progress = self.acknowledged.borrow_and_update().clone();
        let Progress { record, ranges, streams, acknowledgements } = progress;
        self.table.tell(&mut self.ledger, &self.admission);
        self.ledger.remember_ranges(&ranges);
        self.ledger.remember_streams(&streams);
        // In the end for what waits too: the mark vouches for it.
        let vouches_for_less = is_last && self.ledger.log_durable() < self.wal.synced();
        if self.status.borrow().settled != record || self.ledger.is_due() || vouches_for_less {
            reclaim::checkpoint(&self.env, &mut self.ledger, &self.wal, &record)
                .map_err(|error| chain(&error))?;
            reached(Death::Settled);
        }
        self.status.send_if_modified(|status| {
            let is_news =
                status.settled != record || status.ranges != ranges || status.recorded != streams.sequence;
            (status.settled, status.ranges, status.recorded) = (record, ranges, streams.sequence);
            is_news
        });
        self.checkpointed = acknowledgements;
        Ok(())
    }

    /// Frees what may be freed; how many bytes that was.
    fn reclaim(&mut self) -> Result<u64, String> {
        // [I5] Only what the durable ledger says.
        let settled = self.status.borrow().settled.settled.through;
        let short_bytes = self.admission.shortage().map_or(0, |full| full.short_bytes());
        let mut spare_bytes = if short_bytes > 0 { self.wal.give_up_spares() } else { 0 };
        let (segments, now) = (self.wal.segment_infos(), self.env.clock.unix_micros());
        let through =
            self.retention.freeable(&segments, settled, now, short_bytes.saturating_sub(spare_bytes));
        self.next_expiry = self.retention.next_expiry(&segments, settled, now);
        let roll_bytes = if short_bytes > 0 { 1 } else { ROLL_BYTES_MIN.max(self.wal.segment_bytes() / 4) };
        let mut reclaimed = reclaim::free(&self.wal, through, roll_bytes);
        if reclaimed.is_err() && self.ledger.give_up_reserve() {
            reclaimed = reclaim::free(&self.wal, through, roll_bytes);
        }
        if short_bytes > 0 {
            spare_bytes += self.wal.give_up_spares();
        }
        // One that fails half-way has made room too.
        if reclaimed.as_ref().map_or(true, |reclaimed| reclaimed.bytes + spare_bytes > 0) {
            self.admission.room_made();
        }
        self.ledger.refill_reserve();
        reclaimed
            .map(|reclaimed| reclaimed.bytes + spare_bytes)
            .map_err(|error| format!("cannot reclaim settled segments: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::path::Path;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use tempfile::TempDir;

    use super::*;
    use crate::admission::Limits;
    use crate::catalog::KnownTable;
    use crate::config::OnFull;
    use crate::ledger::Settled;
    use crate::quarantine::{Quarantine, Source};
    use crate::types::{Epoch, Lsn};
    use crate::wal::{PreparedFrame, testing};

    struct Running {
        dir: TempDir,
        acknowledged: watch::Sender<Progress>,
        settler: watch::Receiver<SettlerStatus>,
    }

    /// A settler of a log in a directory of its own, with this ledger.
    fn settler(ledger: impl FnOnce(&Path, Epoch) -> Ledger) -> (Settler, Running) {
        let dir = tempfile::tempdir().unwrap();
        let (wal, epoch) = testing::open(&dir.path().join("log"), 1 << 20);
        let (acknowledged, status) = (watch::Sender::default(), watch::Sender::default());
        let running = Running { acknowledged, settler: status.subscribe(), dir };
        let dir = running.dir.path();
        let settler = Settler {
            env: Env::os(),
            ledger: ledger(&dir.join("ledger-of-it"), epoch),
            admission: Arc::new(Admission::new(
                tokio::runtime::Handle::current(),
                &Env::os(),
                wal.clone(),
                dir.join("log"),
                Limits {
                    wal_max_bytes: 1 << 20,
                    wal_min_free_bytes: 0,
                    on_full: OnFull::Block,
                    block_timeout: None,
                },
                Quarantine::open(
                    &Env::os(),
                    dir,
                    Source { table: "a.b.c".parse().unwrap(), epoch },
                    Lsn::ZERO,
                    0,
                )
                .unwrap(),
            )),
            retention: Retention::default(),
            next_expiry: None,
            wal,
            acknowledged: running.acknowledged.subscribe(),
            checkpointed: 0,
            max_inflight_requests: 8,
            table: TableToRemember::new(
                "a.b.c".parse().unwrap(),
                KnownTable::without_catalog(None).subscribe(),
            ),
            status,
        };
        (settler, running)
    }

    impl Running {
        /// So many more acknowledgements, up to this frame.
        fn acknowledge(&self, through: u64, count: u64) {
            self.acknowledged.send_modify(|progress| {
                progress.record.settled = Settled { through: Lsn::new(through), rows_of_next: 0 };
                progress.acknowledgements += count;
            });
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the test gets in the way of the file system")]
    async fn a_ledger_that_cannot_be_written_is_told_and_does_not_hold_up_the_end() {
        let (settler, running) = settler(|directory, epoch| {
            let ledger = Ledger::open(directory, epoch).unwrap().ledger.unwritable();
            std::fs::remove_dir_all(directory).unwrap();
            std::fs::write(directory, "in the way").unwrap();
            ledger
        });
        running.acknowledge(1, 1);
        let Running { dir: _dir, acknowledged, settler: status } = running;
        drop(acknowledged);
        tokio::time::timeout(Duration::from_secs(30), settler.run()).await.expect("it does not end");
        assert!(status.borrow().failure.is_some());
        assert_eq!(
            status.borrow().settled,
            LedgerRecord::default(),
            "what is not durable is not settled [I5]"
        );
    }

    #[tokio::test]
    async fn acknowledgements_gather_unless_there_are_many_or_somebody_waits_or_no_more_will_come() {
        let (mut settler, running) =
            settler(|directory, epoch| Ledger::open(directory, epoch).unwrap().ledger);
        let gathers = async |settler: &mut Settler, wait: Duration| {
            let until = Instant::now() + wait;
            tokio::select! { biased; () = settler.gather(until) => false, () = ready(()) => true }
        };
        let hour = Duration::from_secs(3600);
        let rows =
            RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        for _ in 0..10 {
            settler.wal.append_blocking(PreparedFrame::new(&rows).unwrap()).unwrap();
        }
        running.acknowledge(1, 3);
        assert!(gathers(&mut settler, hour).await);
        assert!(!gathers(&mut settler, Duration::ZERO).await, "for a while only");
        settler.max_inflight_requests = 7;
        assert!(!gathers(&mut settler, hour).await, "half of a smaller window");
        settler.max_inflight_requests = 8;
        running.acknowledge(2, 1);
        assert!(!gathers(&mut settler, hour).await, "half of the window");

        let mut settler = settler.settle(false).await.unwrap();
        assert!(gathers(&mut settler, hour).await);
        running.acknowledge(3, 1);
        assert!(gathers(&mut settler, hour).await);
        settler.max_inflight_requests = 1;
        assert!(!gathers(&mut settler, hour).await, "a window of one request");
        settler.max_inflight_requests = 8;
        running.acknowledged.send_modify(|progress| Arc::make_mut(&mut progress.streams).sequence += 1);
        assert!(!gathers(&mut settler, hour).await, "a request waits to be recorded");

        let mut settler = settler.settle(false).await.unwrap();
        let wish = settler.admission.reclaims.ask();
        assert!(!gathers(&mut settler, hour).await, "space is wanted");
        settler.admission.reclaims.answer(wish, true);

        assert!(gathers(&mut settler, hour).await);
        running.acknowledge(10, 1);
        assert!(!gathers(&mut settler, hour).await, "everything is acknowledged");

        running.acknowledge(9, 0);
        assert!(gathers(&mut settler, hour).await);
        let Running { dir: _dir, acknowledged, .. } = running;
        drop(acknowledged);
        assert!(!gathers(&mut settler, hour).await, "no more come");
    }
}
