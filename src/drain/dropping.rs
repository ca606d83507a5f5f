//! Dropping what waits longest, when the log is full and the user has allowed it by name \[I4\].
//!
//! The lane does it, and only when nothing is in flight: so no frame is both delivered and dropped, and what is
//! delivered and what is dropped move in one place. Like an acknowledgement it moves the position up to which
//! all is settled; the settler makes that durable, and only then anything is freed \[I5\].

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::Progress;
use super::lane::Lane;
use crate::error::{ErrorCode, chain};
use crate::ledger::{LedgerRecord, Quarantined, Ranges, RecordedRequest, Settled};
use crate::quarantine::{Quarantine, Rows};
use crate::reclaim;
use crate::transport::TransportError;
use crate::types::Lsn;
use crate::wal::{DamageReason, Next, ReadError, Wal};

/// How long dropping waits for acknowledgements. What has none by then is given up with its stream.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What lies between two positions of the log and is not settled yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stretch {
    through: Lsn,
    /// The frames to drop; frames that are settled lie between two of these runs.
    dropped: Vec<Run>,
    damaged_frames: u64,
    quarantined: Quarantined,
}

/// Frames to drop, one behind the other. What is in quarantine lies among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Lsn,
    last: Lsn,
    frames: u64,
    rows: u64,
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
        let Progress { record, ranges, .. } = self.acknowledged.borrow().clone();
        let (wal, from) = (self.wal.clone(), record.settled);
        let quarantine = self.quarantine.clone();
        let measured = spawn_blocking(move || {
            let through = reclaim::droppable(&wal.segment_infos(), from.through, short_bytes);
            through.map(|through| measure(&wal, &quarantine, &ranges, from, through)).transpose()
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
        for Run { first, last, frames, rows } in &stretch.dropped {
            tracing::warn!(
                first_lsn = %first,
                last_lsn = %last,
                frames,
                rows,
                "the log is full: the oldest frames are dropped and will not be delivered"
            );
        }
        self.acknowledged.send_modify(|progress| {
            stretch.add_to(&mut progress.record);
            if !progress.ranges.is_empty() {
                Arc::make_mut(&mut progress.ranges).join_watermark(&mut progress.record.settled);
            }
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
    fn recorded(&self) -> RecordedRequest {
        RecordedRequest {
            end: Settled { through: self.through, rows_of_next: 0 },
            frames: self.dropped.iter().map(|run| run.frames).sum(),
            rows: self.dropped.iter().map(|run| run.rows).sum(),
            damaged_frames: self.damaged_frames,
            quarantined: self.quarantined,
            ..RecordedRequest::default()
        }
    }

    fn add_to(&self, record: &mut LedgerRecord) {
        record.settled = Settled { through: self.through, rows_of_next: 0 };
        record.damaged_frames += self.damaged_frames;
        record.quarantined += self.quarantined;
        for run in &self.dropped {
            record.dropped.add(run.first..=run.last, run.frames, run.rows);
        }
    }

    /// Adds a frame to drop. `is_behind` says that the one before it is none.
    fn drop_frame(&mut self, lsn: Lsn, is_behind: bool, frames: u64, rows: u64) {
        match self.dropped.last_mut().filter(|_| !is_behind) {
            Some(run) => *run = Run { last: lsn, frames: run.frames + frames, rows: run.rows + rows, ..*run },
            None => self.dropped.push(Run { first: lsn, last: lsn, frames, rows }),
        }
    }
}

/// Counts what is to be dropped by reading it: what damage has taken is none of it, and rows that are delivered or in
/// quarantine neither.
fn measure(
    wal: &Wal,
    quarantine: &Quarantine,
    ranges: &Ranges,
    from: Settled,
    through: Lsn,
) -> Result<Stretch, ReadError> {
    let mut stretch = Stretch { through: from.through, ..Stretch::default() };
    let mut reader = wal.reader(from.through.next());
    // The frame before was settled above the watermark.
    let mut is_behind_settled = false;
    while stretch.through < through {
        match reader.next()? {
            Some(Next::Frame(frame)) => {
                let delivered = if stretch.through == from.through { from.rows_of_next } else { 0 };
                stretch.through = frame.lsn;
                let (first, end) = (delivered.min(frame.rows) as usize, frame.rows as usize);
                let settled = ranges.rows_of(frame.lsn, frame.rows);
                if frame.rows > 0 && settled.iter().any(|run| run.len() == end) {
                    is_behind_settled = true;
                    continue;
                }
                // Whoever has its last row has counted it.
                let is_counted = settled.last().is_some_and(|run| run.end == frame.rows);
                let settled = Rows::of(settled.into_iter().flatten());
                let open = settled.gaps_in(first..end);
                let rows = quarantine.rows_of(frame.lsn).unwrap_or_default();
                let quarantined: u64 = open.iter().map(|run| rows.count_in(run.clone())).sum();
                stretch.quarantined.rows += quarantined;
                if frame.rows > 0 && rows.count_in(0..end) == u64::from(frame.rows) {
                    stretch.quarantined.frames += u64::from(!is_counted);
                    continue;
                }
                let left = open.iter().map(|run| run.len() as u64).sum::<u64>() - quarantined;
                stretch.drop_frame(frame.lsn, is_behind_settled, u64::from(!is_counted), left);
                is_behind_settled = false;
            }
            Some(Next::Damaged(damage)) => {
                let Some(lsns) = &damage.lsns else { continue };
                tracing::error!(%damage, "stepping over a damaged stretch of the log");
                stretch.through = *lsns.end();
                if damage.reason != DamageReason::Unsynced {
                    let lsns = lsns.start().get()..=lsns.end().get();
                    let damaged = lsns.filter(|lsn| !ranges.has_frame(Lsn::new(*lsn))).count();
                    stretch.damaged_frames += damaged as u64;
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
