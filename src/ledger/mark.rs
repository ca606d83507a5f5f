//! The bytes of the mark: what the last checkpoint said, for the day on which the store says something else.
//!
//! sled takes some damage of its files for their end, and comes up with what it held before, or with nothing. The mark is
//! written after the store is durable, so a store that says less than it was damaged, lost, or put back from a copy.
//! `mark_file` reads and writes it; `judge` compares.
//!
//! ```text
//!      0       4       8      12      16              24              32
//!      ├───────────────┼───────┼───────┼───────────────┼───────────────┤
//!    0 │ "ZBLEDGMK"    │version│flags  │ epoch         │ generation    │
//!   32 │ log durable   │ highest sent  │ open rows     │ doubtful rows │
//!   64 │ frames left   │ rows left out │record │streams│table  │length │
//!      │ out           │               │ crc32 │ crc32 │ crc32 │       │
//!   96 │ the record as it stands in the store, then zeros              │
//! 4064 │ 0 …                                                   │ crc32 │
//!      └───────────────────────────────────────────────────────┴───────┘
//! ```

use super::bytes::Reader;
use super::judge::Digests;
use super::{LedgerRecord, Ranges};
use crate::types::{Epoch, Lsn};

/// Bytes of one of the two slots.
pub(super) const SLOT_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"ZBLEDGMK";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = SLOT_BYTES - 4;
/// What stands before the record.
const FIXED_BYTES: usize = 96;
const RECORD_BYTES_MAX: usize = CHECKSUM_AT - FIXED_BYTES;
/// Which of the three checksums of the contents are about something: record, streams, table.
const FLAGS: [u32; 3] = [1, 2, 4];

/// What the last checkpoint said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    /// The number of the checkpoint.
    pub(super) generation: u64,
    /// Every frame up to here was durable in the log.
    pub(super) log_durable: Lsn,
    pub(super) sent: Sent,
    pub(super) record: LedgerRecord,
    /// What was settled above the watermark; nothing if that was too much for a slot.
    pub(super) ranges: Ranges,
    /// What of it did not fit.
    pub(super) left_out: LeftOut,
    pub(super) digests: Digests,
}

/// What was recorded of persistent streams, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// The highest frame of which something was sent.
    pub(super) highest: Lsn,
    /// Rows of which nobody knew whether they were committed.
    pub(super) open_rows: u64,
    /// Rows that may be in the table twice, since the log began.
    pub(super) doubtful_rows: u64,
}

/// What is settled above the watermark and does not stand in the mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) frames: u64,
    pub(super) rows: u64,
}

/// What one slot holds.
#[derive(Debug, PartialEq)]
pub(super) enum Slot {
    /// Nothing was written yet.
    Blank,
    /// Something that is no mark: written in part, or damaged.
    Broken(String),
    Whole(Box<Mark>),
}

impl Mark {
    /// The mark of a checkpoint with these contents.
    pub(super) fn new(
        generation: u64,
        (log_durable, sent): (Lsn, Sent),
        (record, ranges): (&LedgerRecord, &Ranges),
        digests: Digests,
    ) -> Mark {
        let fits = record.encode(ranges).len() <= RECORD_BYTES_MAX;
        let left_out = match fits {
            true => LeftOut::default(),
            false => LeftOut { frames: ranges.frames(), rows: ranges.rows() },
        };
        let ranges = if fits { ranges.clone() } else { Ranges::default() };
        Mark { generation, log_durable, sent, record: *record, ranges, left_out, digests }
    }

    pub(super) fn encode(&self, epoch: Epoch) -> Vec<u8> {
        let record = self.record.encode(&self.ranges);
        let Digests { record: of_record, streams, table } = self.digests;
        let digests = [of_record, streams, table];
        let flags: u32 = FLAGS.iter().zip(digests).filter(|(_, it)| it.is_some()).map(|(flag, _)| flag).sum();
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&MAGIC);
        slot.extend_from_slice(&VERSION.to_le_bytes());
        slot.extend_from_slice(&flags.to_le_bytes());
        for number in [
            epoch.get(),
            self.generation,
            self.log_durable.get(),
            self.sent.highest.get(),
            self.sent.open_rows,
            self.sent.doubtful_rows,
            self.left_out.frames,
            self.left_out.rows,
        ] {
            slot.extend_from_slice(&number.to_le_bytes());
        }
        for number in digests.map(Option::unwrap_or_default).into_iter().chain([record.len() as u32]) {
            slot.extend_from_slice(&number.to_le_bytes());
        }
        slot.extend_from_slice(&record);
        slot.resize(CHECKSUM_AT, 0);
        slot.extend_from_slice(&crc32fast::hash(&slot).to_le_bytes());
        slot
    }

    /// What a slot holds for the log with this epoch.
    pub(super) fn decode(slot: &[u8], epoch: Epoch) -> Slot {
        if slot.iter().all(|byte| *byte == 0) {
            return Slot::Blank;
        }
        match decode(slot, epoch) {
            Ok(mark) => Slot::Whole(Box::new(mark)),
            Err(reason) => Slot::Broken(reason),
        }
    }
}

fn decode(slot: &[u8], epoch: Epoch) -> Result<Mark, String> {
    let (body, checksum) = slot
        .split_last_chunk::<4>()
        .filter(|_| slot.len() == SLOT_BYTES)
        .ok_or_else(|| format!("a slot of {} bytes", slot.len()))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err("the checksum does not match".to_owned());
    }
    let mut reader = Reader::new(body);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err("it is no mark".to_owned());
    }
    let (version, flags) = (reader.u32_le()?, reader.u32_le()?);
    if version != VERSION {
        return Err(format!("it has version {version}, this program reads {VERSION}"));
    }
    let of = Epoch::new(reader.u64_le()?);
    if of != epoch {
        return Err(format!("it is of the log {of}, this one is {epoch}"));
    }
    let generation = reader.u64_le()?;
    let log_durable = Lsn::new(reader.u64_le()?);
    let sent = Sent {
        highest: Lsn::new(reader.u64_le()?),
        open_rows: reader.u64_le()?,
        doubtful_rows: reader.u64_le()?,
    };
    let left_out = LeftOut { frames: reader.u64_le()?, rows: reader.u64_le()? };
    let mut digest = |flag| reader.u32_le().map(|crc| (flags & flag != 0).then_some(crc));
    let digests = Digests { record: digest(FLAGS[0])?, streams: digest(FLAGS[1])?, table: digest(FLAGS[2])? };
    let length = reader.u32_le()? as usize;
    let (record, ranges) = LedgerRecord::decode(reader.take(length)?)?;
    Ok(Mark { generation, log_durable, sent, record, ranges, left_out, digests })
}

/// Under which key the store has the number of its last checkpoint: in one piece with the record.
pub(super) fn generation_key(epoch: Epoch) -> [u8; 19] {
    let mut key = *b"generation\0........";
    key[11..].copy_from_slice(&epoch.get().to_be_bytes());
    key
}

pub(super) fn decode_generation(bytes: &[u8]) -> Result<u64, String> {
    let number = <[u8; 8]>::try_from(bytes).map_err(|_| format!("a generation of {} bytes", bytes.len()))?;
    Ok(u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{RANGES_MAX, Settled, SettledRange};

    const EPOCH: Epoch = Epoch::new(7);

    fn mark(ranges: u64) -> Mark {
        let at = |lsn| Settled { through: Lsn::new(lsn), rows_of_next: 0 };
        let record = LedgerRecord {
            settled: at(5),
            delivered_frames: 5 + ranges,
            delivered_rows: 50,
            ..LedgerRecord::default()
        };
        let mut settled = Ranges::default();
        for number in 1..=ranges {
            let (start, end) = (at(10 * number), at(10 * number + 1));
            let range = SettledRange { start, end, frames: 1, rows: 2, requests: 1 };
            settled.settle(&mut at(5), range);
        }
        let sent = Sent { highest: Lsn::new(9), open_rows: 3, doubtful_rows: 4 };
        let digests = Digests { record: Some(1), streams: None, table: Some(0) };
        Mark::new(6, (Lsn::new(20), sent), (&record, &settled), digests)
    }

    #[test]
    fn a_mark_survives_its_bytes_for_its_own_log_only() {
        for mark in [mark(0), mark(3), mark(60)] {
            let slot = mark.encode(EPOCH);
            assert_eq!(slot.len(), SLOT_BYTES);
            assert!(
                matches!(Mark::decode(&slot, Epoch::new(8)), Slot::Broken(why) if why.contains("the log"))
            );
            assert_eq!(Mark::decode(&slot, EPOCH), Slot::Whole(Box::new(mark)));
        }
        assert_eq!(Mark::decode(&[0; SLOT_BYTES], EPOCH), Slot::Blank);
    }

    #[test]
    fn ranges_that_do_not_fit_are_left_out_and_counted() {
        let full = mark(RANGES_MAX as u64);
        assert_eq!(full.ranges, Ranges::default());
        assert_eq!(full.left_out, LeftOut { frames: RANGES_MAX as u64, rows: 2 * RANGES_MAX as u64 });
        assert_eq!(Mark::decode(&full.encode(EPOCH), EPOCH), Slot::Whole(Box::new(full)));
    }

    #[test]
    fn every_single_bit_that_flips_breaks_a_slot() {
        let good = mark(3).encode(EPOCH);
        for bit in 0..8 * good.len() {
            let mut slot = good.clone();
            slot[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Mark::decode(&slot, EPOCH), Slot::Broken(_)), "bit {bit}");
        }
        for length in 1..good.len() {
            assert!(matches!(Mark::decode(&good[..length], EPOCH), Slot::Broken(_)), "{length} bytes");
        }
    }
}
