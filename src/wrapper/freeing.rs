//! Freeing, when somebody asks for it, what is settled and only kept: of a log that is open here, and of a dead one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Inner;
use super::OpenError;
use super::open::{OpenedLog, open_log};
use crate::config::{DeliveryGuarantee, WrapperConfiguration};
use crate::error::chain;
use crate::io::Env;
use crate::reclaim::{self, Retention};
use crate::types::Lsn;
use crate::wal::{Destination, Durability, LogDirectory, SegmentInfo, WalOptions};

/// A new segment takes the place of the newest one, if that is settled too and holds anything.
const ROLL_BYTES: u64 = 1;

/// What becomes of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFate {
    /// Its first frame.
    pub first_lsn: Lsn,
    /// Its last frame.
    pub last_lsn: Lsn,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it is freed.
    pub is_freed: bool,
    /// Why it is still there or, if it is not freed, why it stays.
    pub reason: String,
}

/// The segments of a log, and what freeing makes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Freeing {
    /// Every frame up to here is settled, durably so.
    pub(crate) settled_lsn: Lsn,
    /// The segments with frames, in order.
    pub(crate) segments: Vec<SegmentFate>,
    /// Bytes that were freed, those of spare files included; 0 in a plan.
    pub(crate) freed_bytes: u64,
}

/// What is to become of these segments. `retention` is none where nobody says what is to be kept.
pub(crate) fn fates(
    segments: &[SegmentInfo],
    settled: Lsn,
    retention: Option<(Retention, i64)>,
    ledger_failure: Option<&str>,
) -> Vec<SegmentFate> {
    let expired = retention.map(|(retention, now)| retention.freeable(segments, settled, now, 0));
    let fate = |segment: &SegmentInfo| {
        let is_freed = segment.last <= settled;
        let reason = if is_freed {
            match expired {
                Some(expired) if segment.last > expired => {
                    "settled; retained by retain_delivered_secs or retain_delivered_bytes".to_owned()
                }
                Some(_) => "settled, and not freed yet".to_owned(),
                None => "settled; its owner has kept it or had not freed it".to_owned(),
            }
        } else if let Some(failure) = ledger_failure {
            format!("not settled durably: the ledger cannot be written: {failure}")
        } else if segment.first <= settled {
            format!("the frames from {} on are not settled", settled.next())
        } else {
            "its frames are not settled, or some before them are not".to_owned()
        };
        SegmentFate {
            first_lsn: segment.first,
            last_lsn: segment.last,
            bytes: segment.bytes,
            is_freed,
            reason,
        }
    };
    segments.iter().map(fate).collect()
}

impl Inner {
    /// What would be freed; if `executes`, it is.
    ///
    /// # Errors
    ///
    /// When the file system fails. What was freed until then is freed.
    pub(crate) fn free_settled(&self, executes: bool) -> std::io::Result<Freeing> {
        // [I5] Only what the durable ledger says.
        let settler = self.settler.borrow().clone();
        let settled = settler.settled.settled.through;
        let retention = Some((self.settings.retention, self.env.clock.unix_micros()));
        let segments = fates(&self.wal.segment_infos(), settled, retention, settler.failure.as_deref());
        let mut freeing = Freeing { settled_lsn: settled, segments, freed_bytes: 0 };
        if executes {
            let freed = reclaim::free(&self.wal, settled, ROLL_BYTES);
            // Files that wait to be segments again are no segments that anybody asked for.
            freeing.freed_bytes = self.wal.give_up_spares();
            self.admission.room_made();
            freeing.freed_bytes += freed?.bytes;
        }
        Ok(freeing)
    }
}

/// Frees what is settled of a log that nobody owns.
///
/// # Errors
///
/// [`OpenError`] if somebody owns it by now, or it cannot be opened.
pub(crate) fn free_settled_of_dead(
    env: &Env,
    directory: &Path,
    destination: &Destination,
) -> Result<Freeing, OpenError> {
    let locked = LogDirectory::open_unchanged(env, directory, destination)?;
    let defaults = WrapperConfiguration::new(destination.endpoint.clone(), destination.table.as_str());
    let options =
        WalOptions { segment_bytes: defaults.segment_bytes, durability: Durability::Sync, spare_segments: 0 };
    let delivery = DeliveryGuarantee::AtLeastOnce;
    let OpenedLog { wal, mut ledger, record, ranges, .. } =
        open_log(env, locked, options, &destination.table, u64::MAX, delivery)?;
    let settled = record.settled.through;
    ledger.remember_ranges(&ranges);
    // [I5] What was made of ledger and log together is durable before anything is freed because of it.
    let recorded = ledger.checkpoint(&record);
    let failure = recorded.as_ref().err().map(|error| chain(error));
    let segments = fates(&wal.segment_infos(), settled, None, failure.as_deref());
    let before = wal.bytes();
    let freed = recorded.map(|()| reclaim::free(&wal, settled, ROLL_BYTES));
    let freed_bytes = before.saturating_sub(wal.bytes());
    wal.close();
    let _reclaimed = freed?.map_err(|source| {
        let (action, path) = ("free settled segments in", directory.to_owned());
        crate::wal::OpenError::Storage { action, path, source }
    })?;
    Ok(Freeing { settled_lsn: settled, segments, freed_bytes })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_segment_is_told_with_why_it_goes_or_stays() {
        let segment = |first: u64, last_unix_micros| SegmentInfo {
            first: Lsn::new(first),
            last: Lsn::new(first + 9),
            bytes: 100,
            last_unix_micros,
        };
        let segments =
            [segment(1, 0), segment(11, 9_000_000), segment(21, 9_000_000), segment(31, 9_000_000)];
        let retention = Retention { age_max: Duration::from_secs(5), bytes_max: 0 };
        let told = fates(&segments, Lsn::new(25), Some((retention, 10_000_000)), None);
        let goes: Vec<bool> = told.iter().map(|fate| fate.is_freed).collect();
        assert_eq!(goes, [true, true, false, false], "[I4]");
        for (fate, reason) in
            told.iter().zip(["not freed yet", "retained by", "from 26 on are not", "some before them"])
        {
            assert!(fate.reason.contains(reason), "{fate:?}");
        }
        let told = fates(&segments, Lsn::ZERO, None, Some("the disk is full"));
        assert!(told.iter().all(|fate| !fate.is_freed && fate.reason.contains("the disk is full")));
    }
}
