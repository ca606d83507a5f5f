//! What one ledger record says, and its bytes.

use serde::{Deserialize, Serialize};

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
}

const VERSION: u8 = 1;
const ENCODED_BYTES: usize = 1 + 8 + 4 + 8 + 8 + 8;

/// The key holds the epoch, so that a ledger of another log says nothing about ours \[I12\].
pub(super) fn key(epoch: Epoch) -> [u8; 16] {
    let mut key = *b"settled\0........";
    key[8..].copy_from_slice(&epoch.get().to_be_bytes());
    key
}

impl LedgerRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENCODED_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.settled.through.get().to_le_bytes());
        bytes.extend_from_slice(&self.settled.rows_of_next.to_le_bytes());
        bytes.extend_from_slice(&self.delivered_frames.to_le_bytes());
        bytes.extend_from_slice(&self.delivered_rows.to_le_bytes());
        bytes.extend_from_slice(&self.damaged_frames.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<LedgerRecord, String> {
        let bytes: &[u8; ENCODED_BYTES] =
            bytes.try_into().map_err(|_| format!("a record of {} bytes", bytes.len()))?;
        if bytes[0] != VERSION {
            return Err(format!("a record of version {}, this program reads {VERSION}", bytes[0]));
        }
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Ok(LedgerRecord {
            settled: Settled { through: Lsn::new(u64_at(1)), rows_of_next: u32_at(9) },
            delivered_frames: u64_at(13),
            delivered_rows: u64_at(21),
            damaged_frames: u64_at(29),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_bytes() {
        let record = LedgerRecord {
            settled: Settled { through: Lsn::new(u64::MAX), rows_of_next: 17 },
            delivered_frames: 1,
            delivered_rows: u64::MAX - 2,
            damaged_frames: 3,
        };
        assert_eq!(LedgerRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn other_bytes_are_refused_with_a_reason() {
        let mut bytes = LedgerRecord::default().encode();
        assert!(LedgerRecord::decode(&bytes[1..]).is_err());
        bytes[0] = 9;
        assert!(LedgerRecord::decode(&bytes).unwrap_err().contains("version 9"));
    }
}
