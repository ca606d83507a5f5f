//! What one ledger record says, and its bytes.

use serde::{Deserialize, Serialize};

use super::bytes::Reader;
use super::dropped::{Dropped, DroppedRange, RANGES_MAX};
use super::ranges::Ranges;
use crate::types::{Epoch, Lsn};

/// How far a log is settled: all frames up to `through`, and the first rows of the one after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Settled {
    /// The watermark: every frame up to this one is settled.
    pub through: Lsn,
    /// How many rows of the frame after `through` are settled, when a frame needs several requests.
    pub rows_of_next: u32,
}

impl Settled {
    /// The highest LSN that this says anything about. The next frame of the log must be above it, or
    /// it would inherit what was said of another \[I12\].
    pub fn highest(&self) -> Lsn {
        if self.rows_of_next > 0 { self.through.next() } else { self.through }
    }
}

/// Everything that the ledger remembers of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRecord {
    /// How far the log is settled.
    pub settled: Settled,
    /// Frames delivered since the log began.
    pub delivered_frames: u64,
    /// Rows delivered since the log began.
    pub delivered_rows: u64,
    /// Frames that were stepped over because the disk had damaged them.
    pub damaged_frames: u64,
    /// What was dropped because the log was full, which only a setting of the user allows \[I4\].
    pub dropped: Dropped,
    /// What of the delivered rows did not arrive as it was, which a setting of the user allows.
    pub bent: Bent,
    /// What was refused for good and is kept with the reason.
    pub quarantined: Quarantined,
}

/// What was put into quarantine, up to where the log is settled. Rows that are there already and lie behind that do not
/// count yet: they wait, as far as the log goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Rows.
    pub rows: u64,
    /// Frames of which no row was delivered.
    pub frames: u64,
}

impl std::ops::AddAssign for Quarantined {
    fn add_assign(&mut self, more: Quarantined) {
        self.rows += more.rows;
        self.frames += more.frames;
    }
}

/// Values that the service cannot hold as they are, and that were sent as the nearest that it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bent {
    /// Timestamps that lost nanoseconds.
    pub floored_timestamps: u64,
    /// Null lists and maps that became empty ones.
    pub emptied_lists: u64,
}

impl std::ops::AddAssign for Bent {
    fn add_assign(&mut self, more: Bent) {
        self.floored_timestamps += more.floored_timestamps;
        self.emptied_lists += more.emptied_lists;
    }
}

const VERSION: u8 = 5;
/// The version without settled ranges; it is written where there are none.
const VERSION_WITHOUT_RANGES: u8 = 4;
/// The version that knows no quarantine.
const VERSION_WITHOUT_QUARANTINE: u8 = 3;
/// The version that knows no bent values either.
const VERSION_WITHOUT_BENT: u8 = 2;
/// The version that knows no drops either.
const VERSION_WITHOUT_DROPS: u8 = 1;
/// What all versions begin with.
const COMMON_BYTES: usize = 1 + 8 + 4 + 8 + 8 + 8;
/// Timestamps and lists, before what was dropped.
const BENT_BYTES: usize = 8 + 8;
/// Rows and frames in quarantine, behind the bent values.
const QUARANTINED_BYTES: usize = 8 + 8;
/// Frames and rows that were dropped, and how many ranges follow.
const DROPS_BYTES: usize = 8 + 8 + 1;
const RANGE_BYTES: usize = 8 + 8 + 1;

/// The key holds the epoch, so that a ledger of another log says nothing about ours \[I12\].
pub(super) fn key(epoch: Epoch) -> [u8; 16] {
    let mut key = *b"settled\0........";
    key[8..].copy_from_slice(&epoch.get().to_be_bytes());
    key
}

impl LedgerRecord {
    /// The bytes, together with what is settled above the watermark.
    pub(super) fn encode(&self, settled_ranges: &Ranges) -> Vec<u8> {
        let ranges = self.dropped.ranges();
        let fixed_bytes = COMMON_BYTES + BENT_BYTES + QUARANTINED_BYTES + DROPS_BYTES;
        let mut bytes = Vec::with_capacity(fixed_bytes + RANGE_BYTES * ranges.len());
        let has_ranges = !settled_ranges.above(self.settled).is_empty();
        bytes.push(if has_ranges { VERSION } else { VERSION_WITHOUT_RANGES });
        bytes.extend_from_slice(&self.settled.through.get().to_le_bytes());
        bytes.extend_from_slice(&self.settled.rows_of_next.to_le_bytes());
        bytes.extend_from_slice(&self.delivered_frames.to_le_bytes());
        bytes.extend_from_slice(&self.delivered_rows.to_le_bytes());
        bytes.extend_from_slice(&self.damaged_frames.to_le_bytes());
        bytes.extend_from_slice(&self.bent.floored_timestamps.to_le_bytes());
        bytes.extend_from_slice(&self.bent.emptied_lists.to_le_bytes());
        bytes.extend_from_slice(&self.quarantined.rows.to_le_bytes());
        bytes.extend_from_slice(&self.quarantined.frames.to_le_bytes());
        bytes.extend_from_slice(&self.dropped.frames.to_le_bytes());
        bytes.extend_from_slice(&self.dropped.rows.to_le_bytes());
        bytes.push(ranges.len() as u8);
        for range in ranges {
            bytes.extend_from_slice(&range.first.get().to_le_bytes());
            bytes.extend_from_slice(&range.last.get().to_le_bytes());
            bytes.push(range.is_whole.into());
        }
        if has_ranges {
            settled_ranges.encode(self.settled, &mut bytes);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(LedgerRecord, Ranges), String> {
        let wrong_length = || format!("a record of {} bytes", bytes.len());
        let version = *bytes.first().ok_or_else(wrong_length)?;
        if !(VERSION_WITHOUT_DROPS..=VERSION).contains(&version) {
            return Err(format!("a record of version {version}, this program reads up to {VERSION}"));
        }
        let (common, rest) = bytes.split_at_checked(COMMON_BYTES).ok_or_else(wrong_length)?;
        let bent_bytes = if version > VERSION_WITHOUT_BENT { BENT_BYTES } else { 0 };
        let (bent, rest) = rest.split_at_checked(bent_bytes).ok_or_else(wrong_length)?;
        let quarantined_bytes = if version > VERSION_WITHOUT_QUARANTINE { QUARANTINED_BYTES } else { 0 };
        let (quarantined, drops) = rest.split_at_checked(quarantined_bytes).ok_or_else(wrong_length)?;
        let settled = Settled { through: Lsn::new(u64_at(common, 1)), rows_of_next: u32_at(common, 9) };
        let (dropped, ranges) = match version {
            VERSION_WITHOUT_DROPS => (Dropped::default(), drops),
            _ => decode_drops(drops).ok_or_else(wrong_length)?,
        };
        let ranges = match version {
            VERSION => {
                let mut reader = Reader::new(ranges);
                let decoded = Ranges::decode(settled, &mut reader)?;
                reader.finish()?;
                decoded
            }
            _ if ranges.is_empty() => Ranges::default(),
            _ => return Err(wrong_length()),
        };
        let record = LedgerRecord {
            settled,
            delivered_frames: u64_at(common, 13),
            delivered_rows: u64_at(common, 21),
            damaged_frames: u64_at(common, 29),
            dropped,
            bent: match bent {
                [] => Bent::default(),
                _ => Bent { floored_timestamps: u64_at(bent, 0), emptied_lists: u64_at(bent, 8) },
            },
            quarantined: match quarantined {
                [] => Quarantined::default(),
                _ => Quarantined { rows: u64_at(quarantined, 0), frames: u64_at(quarantined, 8) },
            },
        };
        Ok((record, ranges))
    }
}

/// What was dropped, and the bytes behind it.
fn decode_drops(bytes: &[u8]) -> Option<(Dropped, &[u8])> {
    let (counts, ranges) = bytes.split_at_checked(DROPS_BYTES)?;
    let count = usize::from(counts[16]);
    if count > RANGES_MAX {
        return None;
    }
    let (ranges, rest) = ranges.split_at_checked(count * RANGE_BYTES)?;
    let mut dropped = Dropped::default();
    (dropped.frames, dropped.rows) = (u64_at(counts, 0), u64_at(counts, 8));
    for range in ranges.chunks_exact(RANGE_BYTES) {
        dropped.push(DroppedRange {
            first: Lsn::new(u64_at(range, 0)),
            last: Lsn::new(u64_at(range, 8)),
            is_whole: range[16] == 1,
        });
    }
    Some((dropped, rest))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SettledRange;

    fn record() -> LedgerRecord {
        let mut record = LedgerRecord {
            settled: Settled { through: Lsn::new(u64::MAX), rows_of_next: 17 },
            delivered_frames: 1,
            delivered_rows: u64::MAX - 2,
            damaged_frames: 3,
            dropped: Dropped::default(),
            bent: Bent { floored_timestamps: 1 << 40, emptied_lists: 7 },
            quarantined: Quarantined { rows: 1 << 50, frames: 11 },
        };
        record.dropped.add(Lsn::new(5)..=Lsn::new(9), 5, 50);
        record.dropped.add(Lsn::new(20)..=Lsn::new(22), 3, 31);
        record
    }

    fn ranges() -> Ranges {
        let mut ranges = Ranges::default();
        let at = |through, rows_of_next| Settled { through: Lsn::new(through), rows_of_next };
        for (start, end) in [(at(8, 3), at(9, 0)), (at(9, 4), at(300, 1))] {
            let range = SettledRange { start, end, frames: 1, rows: 1 << 20, requests: 1 };
            ranges.settle(&mut Settled::default(), range);
        }
        ranges
    }

    #[test]
    fn a_record_survives_its_bytes() {
        let mut many = record();
        for number in (100..1_000).step_by(10) {
            many.dropped.add(Lsn::new(number)..=Lsn::new(number), 1, 1);
        }
        for record in [LedgerRecord::default(), record(), many] {
            let bytes = record.encode(&Ranges::default());
            assert_eq!(bytes[0], 4, "a program that knows no ranges reads it");
            assert_eq!(LedgerRecord::decode(&bytes), Ok((record, Ranges::default())));
        }
        let low = LedgerRecord { settled: Settled { through: Lsn::new(7), rows_of_next: 2 }, ..many };
        let bytes = low.encode(&ranges());
        assert_eq!((bytes[0], LedgerRecord::decode(&bytes)), (5, Ok((low, ranges()))));
    }

    #[test]
    fn records_of_earlier_versions_are_read_as_ones_without_what_they_did_not_know() {
        let mut third = record().encode(&Ranges::default());
        third.drain(COMMON_BYTES + BENT_BYTES..COMMON_BYTES + BENT_BYTES + QUARANTINED_BYTES);
        third[0] = 3;
        let without_quarantine = LedgerRecord { quarantined: Quarantined::default(), ..record() };
        assert_eq!(LedgerRecord::decode(&third), Ok((without_quarantine, Ranges::default())));
        let mut second = third;
        second.drain(COMMON_BYTES..COMMON_BYTES + BENT_BYTES);
        second[0] = 2;
        let without_bent = LedgerRecord { bent: Bent::default(), ..without_quarantine };
        assert_eq!(LedgerRecord::decode(&second), Ok((without_bent, Ranges::default())));
        let mut first = second[..COMMON_BYTES].to_vec();
        first[0] = 1;
        assert_eq!(
            LedgerRecord::decode(&first),
            Ok((LedgerRecord { dropped: Dropped::default(), ..without_bent }, Ranges::default()))
        );
    }

    #[test]
    fn other_bytes_are_refused_with_a_reason() {
        let good = record().encode(&Ranges::default());
        let low = LedgerRecord { settled: Settled::default(), ..record() };
        for good in [&good, &low.encode(&ranges())] {
            for length in 0..good.len() {
                assert!(LedgerRecord::decode(&good[..length]).is_err(), "{length} bytes were taken for one");
            }
            assert!(LedgerRecord::decode(&[good, &[0][..]].concat()).is_err(), "one byte more");
        }
        let mut bytes = good;
        bytes[COMMON_BYTES + BENT_BYTES + QUARANTINED_BYTES + DROPS_BYTES - 1] = u8::MAX;
        assert!(LedgerRecord::decode(&bytes).is_err(), "more ranges than there can be");
        bytes[0] = 9;
        assert!(LedgerRecord::decode(&bytes).unwrap_err().contains("version 9"));
    }
}
