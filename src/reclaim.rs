//! Which settled segments are freed when, and the order of it: ledger first, segments second.
//! After a restart ledger and log are each asked what it knows of the other.

use std::io;
use std::time::Duration;

use crate::canary::Canary;
use crate::io::Env;
use crate::ledger::{Ledger, LedgerError, LedgerRecord, Ranges, Settled};
use crate::types::Lsn;
use crate::wal::{Count, ReadError, Reclaimed, SegmentInfo, Wal};

/// How much of what is settled is kept, for replay. Each is a ceiling, zero is none; without any of them nothing
/// is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The age of a segment, from its last append on.
    pub age_max: Duration,
    /// The bytes of all settled segments together.
    pub bytes_max: u64,
}

/// Makes the record durable in the ledger. Nothing that it settles may be freed before \[I5\].
///
/// # Errors
///
/// [`LedgerError`] if the record is not durable.
pub fn checkpoint(
    env: &Env,
    ledger: &mut Ledger,
    wal: &Wal,
    record: &LedgerRecord,
) -> Result<(), LedgerError> {
    if env.canaries.has(Canary::FreeBeforeLedgerSync) {
        let _ = wal.reclaim(record.settled.through, 0);
    }
    ledger.remember_log(wal.synced());
    ledger.checkpoint(record)
}

/// Frees the segments that the durable ledger has settled up to `through`. The newest one is replaced if it
/// is settled too and holds `roll_bytes` or more.
///
/// # Errors
///
/// When the file system fails. What was freed until then is freed.
pub fn free(wal: &Wal, through: Lsn, roll_bytes: u64) -> io::Result<Reclaimed> {
    // A new segment needs space, which a full disk has only after the older ones are gone.
    let older = wal.reclaim(through, u64::MAX)?;
    let newest = wal.reclaim(through, roll_bytes)?;
    Ok(Reclaimed { segments: older.segments + newest.segments, bytes: older.bytes + newest.bytes })
}

impl Retention {
    fn is_off(&self) -> bool {
        *self == Retention::default()
    }

    /// The last frame up to which segments may be freed; never beyond `settled` \[I4\]. `short_bytes` are missing
    /// somewhere: so much is freed, if there is so much, whatever else is to be kept.
    pub fn freeable(
        &self,
        segments: &[SegmentInfo],
        settled: Lsn,
        now_unix_micros: i64,
        short_bytes: u64,
    ) -> Lsn {
        if self.is_off() {
            return settled;
        }
        let segments = &segments[..settled_segments(segments, settled)];
        let mut kept_bytes = 0;
        let first_kept = segments
            .iter()
            .rposition(|segment| {
                kept_bytes += segment.bytes;
                let is_too_much = self.bytes_max > 0 && kept_bytes > self.bytes_max;
                is_too_much || self.expires_in(segment, now_unix_micros) == Some(Duration::ZERO)
            })
            .map_or(0, |newest_freed| newest_freed + 1);
        let mut freed_bytes: u64 = segments[..first_kept].iter().map(|segment| segment.bytes).sum();
        let mut freed = first_kept;
        while freed < segments.len() && freed_bytes < short_bytes {
            freed_bytes += segments[freed].bytes;
            freed += 1;
        }
        segments[..freed].last().map_or(Lsn::ZERO, |segment| segment.last)
    }

    /// When the next settled segment becomes too old, if one will. Those that are so already do not count.
    pub fn next_expiry(
        &self,
        segments: &[SegmentInfo],
        settled: Lsn,
        now_unix_micros: i64,
    ) -> Option<Duration> {
        let segments = &segments[..settled_segments(segments, settled)];
        let expiries = segments.iter().filter_map(|segment| self.expires_in(segment, now_unix_micros));
        expiries.filter(|left| !left.is_zero()).min()
    }

    /// A segment from the future, after the clock was set back, is kept for its time.
    fn expires_in(&self, segment: &SegmentInfo, now_unix_micros: i64) -> Option<Duration> {
        let age_max_micros = i64::try_from(self.age_max.as_micros()).unwrap_or(i64::MAX);
        let expiry = segment.last_unix_micros.saturating_add(age_max_micros);
        let left_micros = expiry.saturating_sub(now_unix_micros).max(0) as u64;
        (age_max_micros > 0).then_some(Duration::from_micros(left_micros))
    }
}

/// The bytes of the segments in which every frame is settled: kept for replay, or not freed yet.
pub fn retained_bytes(segments: &[SegmentInfo], settled: Lsn) -> u64 {
    segments[..settled_segments(segments, settled)].iter().map(|segment| segment.bytes).sum()
}

/// The last frame that has to be dropped so that so many bytes can be freed, the oldest segments first. Less is
/// freed if there is not so much; none if nothing waits.
pub fn droppable(segments: &[SegmentInfo], settled: Lsn, short_bytes: u64) -> Option<Lsn> {
    let mut freed_bytes = 0;
    let mut through = None;
    for segment in &segments[settled_segments(segments, settled)..] {
        through = Some(segment.last);
        freed_bytes += segment.bytes;
        if freed_bytes >= short_bytes {
            break;
        }
    }
    through
}

/// How many segments are settled as a whole.
fn settled_segments(segments: &[SegmentInfo], settled: Lsn) -> usize {
    segments.partition_point(|segment| segment.last <= settled)
}

/// What waits of the frames behind the watermark: rows that are settled above it do not.
pub(crate) fn waiting(behind: Count, settled: Settled, ranges: &Ranges) -> Count {
    let settled_rows = u64::from(settled.rows_of_next) + ranges.rows();
    Count {
        frames: behind.frames.saturating_sub(ranges.frames()),
        rows: behind.rows.saturating_sub(settled_rows),
        ..behind
    }
}

/// What the ledger says, as far as it is about this log. `last` is the last frame that was found; every frame up to
/// `durable` was in the log once, and if it is not there now, it is missing and nothing else.
///
/// # Errors
///
/// [`ReadError`] if the log cannot be read.
pub fn reconcile(
    mut record: LedgerRecord,
    ranges: &mut Ranges,
    wal: &Wal,
    last: Lsn,
    durable: Lsn,
) -> Result<LedgerRecord, ReadError> {
    let settled = &mut record.settled;
    if *settled == Settled::default() {
        // A ledger that knows nothing may have been lost; what was reclaimed by then was settled [I5].
        settled.through = wal.first().map_or(last, Lsn::previous);
    } else if settled.highest() > durable && wal.count_from(settled.through.next())?.frames == 0 {
        // A frame that was delivered in part can have gone with a power cut, if it was never synced.
        *settled = Settled { through: settled.highest(), rows_of_next: 0 };
    }
    let count = |from: Settled| {
        let behind = wal.count_from(from.through.next())?;
        Ok((behind.frames, behind.rows.saturating_sub(from.rows_of_next.into())))
    };
    // `last` is above what the ledger knows, whether it is there or not.
    let found = wal.segment_infos().last().map_or(Lsn::ZERO, |newest| newest.last);
    ranges.end_log(found.max(settled.through).max(durable), count)?;
    ranges.join_watermark(settled);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Segments of ten frames and 100 bytes, the last frame of each appended at these seconds.
    fn segments(seconds: &[i64]) -> Vec<SegmentInfo> {
        let segment = |(index, second): (usize, &i64)| SegmentInfo {
            first: Lsn::new(index as u64 * 10 + 1),
            last: Lsn::new(index as u64 * 10 + 10),
            bytes: 100,
            last_unix_micros: second * SECOND,
        };
        seconds.iter().enumerate().map(segment).collect()
    }

    fn retention(secs: u64, bytes_max: u64) -> Retention {
        Retention { age_max: Duration::from_secs(secs), bytes_max }
    }

    /// What is freed of five segments that were appended at 10, 20 … 50 s and are settled up to this frame.
    fn freed(retention: Retention, settled: u64, now_secs: i64, short_bytes: u64) -> u64 {
        let segments = segments(&[10, 20, 30, 40, 50]);
        retention.freeable(&segments, Lsn::new(settled), now_secs * SECOND, short_bytes).get()
    }

    #[test]
    fn without_retention_everything_settled_is_freed_at_once() {
        assert_eq!(freed(retention(0, 0), 37, 0, 0), 37);
    }

    #[test]
    fn a_segment_is_freed_when_its_last_frame_is_old_enough() {
        assert_eq!(freed(retention(25, 0), 50, 34, 0), 0);
        assert_eq!(freed(retention(25, 0), 50, 35, 0), 10);
        assert_eq!(freed(retention(25, 0), 50, 1_000, 0), 50);
        assert_eq!(
            retention(25, 0).next_expiry(&segments(&[5, 10, 20]), Lsn::new(30), 30 * SECOND),
            Some(Duration::from_secs(5))
        );
    }

    #[test]
    fn bytes_keep_the_newest_segments() {
        assert_eq!(freed(retention(0, 300), 50, 1_000, 0), 20);
        assert_eq!(freed(retention(0, 299), 50, 1_000, 0), 30);
        assert_eq!(freed(retention(0, 1_000), 50, 1_000, 0), 0);
        assert_eq!(retention(0, 300).next_expiry(&segments(&[10]), Lsn::new(10), 0), None);
    }

    #[test]
    fn of_two_ceilings_the_lower_one_counts() {
        assert_eq!(freed(retention(25, 200), 50, 35, 0), 30, "the bytes are lower");
        assert_eq!(freed(retention(25, 400), 50, 50, 0), 20, "the age is lower");
    }

    #[test]
    fn whatever_the_clock_and_the_need_are_no_unsettled_frame_is_freed() {
        for settled in 0..=50 {
            for now_secs in [i64::MIN / SECOND, -5, 0, 40, i64::MAX / SECOND] {
                for short_bytes in [0, 150, u64::MAX] {
                    for (secs, bytes) in [(0, 0), (1, 0), (0, 1), (1, 1), (u64::MAX / 2, u64::MAX)] {
                        let freed = freed(retention(secs, bytes), settled, now_secs, short_bytes);
                        assert!(freed <= settled, "{freed} is above {settled} [I4]");
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_what_is_settled_and_delays_nothing_else() {
        assert_eq!(freed(retention(25, 0), 50, -1_000, 0), 0);
        assert_eq!(freed(retention(25, 200), 50, -1_000, 0), 30, "the bytes are a ceiling all the same");
    }

    #[test]
    fn a_shortage_frees_as_much_as_is_missing_and_the_oldest_first() {
        assert_eq!(freed(retention(1_000, 0), 50, 60, 1), 10);
        assert_eq!(freed(retention(1_000, 0), 50, 60, 150), 20);
        assert_eq!(freed(retention(1_000, 0), 35, 60, u64::MAX), 30);
    }

    #[test]
    fn only_whole_segments_of_unsettled_frames_are_dropped_and_no_more_than_needed() {
        let segments = segments(&[10, 20, 30]);
        assert_eq!(droppable(&segments, Lsn::new(0), 1), Some(Lsn::new(10)));
        assert_eq!(droppable(&segments, Lsn::new(14), 1), Some(Lsn::new(20)), "a part of it is settled");
        assert_eq!(droppable(&segments, Lsn::new(10), 150), Some(Lsn::new(30)));
        assert_eq!(droppable(&segments, Lsn::new(10), u64::MAX), Some(Lsn::new(30)));
        assert_eq!(droppable(&segments, Lsn::new(30), 1), None);
        assert_eq!(retained_bytes(&segments, Lsn::new(25)), 200);
    }
}
