//! Dropping what waits longest, when the log is full and the user has allowed it by name \[I4\].
//!
//! The lane does it, and only when nothing is in flight: so no frame is both delivered and dropped, and what is
//! delivered and what is dropped move in one place. Like an acknowledgement it moves the position up to which
//! all is settled; the settler makes that durable, and only then anything is freed \[I5\].

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::lane::Lane;
use crate::error::{ErrorCode, chain};
use crate::ledger::{LedgerRecord, Quarantined, RecordedRequest, Settled};
use crate::quarantine::Quarantine;
use crate::reclaim;
use crate::transport::TransportError;
use crate::types::Lsn;
use crate::wal::{DamageReason, Next, ReadError, Wal};

/// How long dropping waits for acknowledgements. What has none by then is given up with its stream.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What lies between two positions of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stretch {
    through: Lsn,
    first_frame: Option<Lsn>,
    last_frame: Lsn,
    frames: u64,
    rows: u64,
    damaged_frames: u64,
    quarantined: Quarantined,
}

impl Lane {
    /// Drops the oldest frames, as many as have to go, if somebody still wants that. Says whether anything changed:
    /// then requests that were made before hold what is dropped.
    ///
    /// To be called while nothing is in flight.
    pub(super) async fn drop_oldest(&self) -> bool {
        let drops = &self.admission.drops;
        let number = drops.newest();
        let dropped = match self.admission.shortage() {
            Some(full) => self.drop_for(full.short_bytes()).await,
            None => false,
        };
        drops.answer(number, dropped);
        dropped
    }

    async fn drop_for(&self, short_bytes: u64) -> bool {
        // A request that is being made from frames that disappear would report them as damage.
        self.reads.none().await;
        let (wal, from) = (self.wal.clone(), self.acknowledged.borrow().record.settled);
        let quarantine = self.quarantine.clone();
        let measured = spawn_blocking(move || {
            let through = reclaim::droppable(&wal.segment_infos(), from.through, short_bytes);
            through.map(|through| measure(&wal, &quarantine, from, through)).transpose()
        });
        let stretch = match measured.await {
            Ok(Ok(Some(stretch))) if stretch.through > from.through => stretch,
            Ok(Ok(_)) => return false,
            Ok(Err(error)) => {
                tracing::warn!(reason = chain(&error), "frames to drop cannot be read");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "looking for frames to drop ended early");
                return false;
            }
        };
        if let Some(lsns) = stretch.lsns() {
            tracing::warn!(
                first_lsn = %lsns.start(),
                last_lsn = %lsns.end(),
                frames = stretch.frames,
                rows = stretch.rows,
                "the log is full: the oldest frames are dropped and will not be delivered"
            );
        }
        self.acknowledged.send_modify(|progress| {
            stretch.add_to(&mut progress.record);
            if progress.streams.current.is_some() {
                // What was sent of it may have landed all the same.
                Arc::make_mut(&mut progress.streams).drop_through(&stretch.recorded());
            }
        });
        self.quarantine.settled(stretch.through);
        true
    }
}

impl Stretch {
    fn lsns(&self) -> Option<RangeInclusive<Lsn>> {
        self.first_frame.map(|first| first..=self.last_frame)
    }

    fn recorded(&self) -> RecordedRequest {
        RecordedRequest {
            end: Settled { through: self.through, rows_of_next: 0 },
            frames: self.frames,
            rows: self.rows,
            damaged_frames: self.damaged_frames,
            quarantined: self.quarantined,
            ..RecordedRequest::default()
        }
    }

    fn add_to(&self, record: &mut LedgerRecord) {
        record.settled = Settled { through: self.through, rows_of_next: 0 };
        record.damaged_frames += self.damaged_frames;
        record.quarantined += self.quarantined;
        if let Some(lsns) = self.lsns() {
            record.dropped.add(lsns, self.frames, self.rows);
        }
    }
}

/// Counts what is to be dropped by reading it: what damage has taken is none of it, and rows that are delivered or in
/// quarantine neither.
fn measure(wal: &Wal, quarantine: &Quarantine, from: Settled, through: Lsn) -> Result<Stretch, ReadError> {
    let mut stretch = Stretch { through: from.through, ..Stretch::default() };
    let mut reader = wal.reader(from.through.next());
    while stretch.through < through {
        match reader.next()? {
            Some(Next::Frame(frame)) => {
                let delivered = if stretch.through == from.through { from.rows_of_next } else { 0 };
                stretch.through = frame.lsn;
                let rows = quarantine.rows_of(frame.lsn).unwrap_or_default();
                let (first, end) = (delivered.min(frame.rows) as usize, frame.rows as usize);
                stretch.quarantined.rows += rows.count_in(first..end);
                if frame.rows > 0 && rows.count_in(0..end) == u64::from(frame.rows) {
                    stretch.quarantined.frames += 1;
                    continue;
                }
                stretch.first_frame.get_or_insert(frame.lsn);
                stretch.last_frame = frame.lsn;
                stretch.frames += 1;
                stretch.rows += (end - first) as u64 - rows.count_in(first..end);
            }
            Some(Next::Damaged(damage)) => {
                let Some(lsns) = &damage.lsns else { continue };
                tracing::error!(%damage, "stepping over a damaged stretch of the log");
                stretch.through = *lsns.end();
                if damage.reason != DamageReason::Unsynced {
                    stretch.damaged_frames += lsns.end().get() - lsns.start().get() + 1;
                }
            }
            None => break,
        }
    }
    Ok(stretch)
}

/// Why a stream ends that has not acknowledged in time what stands before the frames to drop.
pub(super) fn out_of_patience() -> TransportError {
    let text = format!("no acknowledgement within {} s while the log is full", PATIENCE.as_secs());
    TransportError::transient(ErrorCode::Connection, text)
}
