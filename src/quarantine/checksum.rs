//! The checksums of a file in quarantine, which stay out of the way of everybody else who reads it.
//!
//! ```text
//!  "ARROW1" │ messages │ end of messages │ "ZBQCRC32" crc of all before │ crc of the rest │ footer │ length │ "ARROW1"
//!           └ rows ────────────────────┘ └ seal, 16 bytes ──────────────────────────────┘ └ end ─────────────────────┘
//! ```
//!
//! Readers of Arrow files find the messages by the footer, and the footer by the end of the file; readers of streams stop
//! at the end of the messages. So nobody looks at what lies between. The seal is found as the footer is, at a fixed
//! distance. Its second checksum covers its own first part too, so each bit of the file is covered by one of the two.
//! That a file has checksums stands in its footer as well: one that has lost its seal is not taken for one of an earlier
//! version, which had none.

use std::io;

use crate::io::StorageFile;

const MAGIC: [u8; 8] = *b"ZBQCRC32";
const SEAL_BYTES: usize = 16;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Both checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    rows: u32,
    end: u32,
}

impl Seal {
    /// With the checksum of everything before it, and the bytes of everything behind.
    pub(super) fn of(rows: u32, end: &[u8]) -> Seal {
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&MAGIC);
        checksum.update(&rows.to_le_bytes());
        checksum.update(end);
        Seal { rows, end: checksum.finalize() }
    }

    pub(super) fn encode(self) -> [u8; SEAL_BYTES] {
        let mut bytes = [0; SEAL_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.rows.to_le_bytes());
        bytes[12..].copy_from_slice(&self.end.to_le_bytes());
        bytes
    }
}

/// A file whose end is whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    rows: u32,
    rows_end: u64,
}

impl Checked {
    /// Looks for the seal before the footer, and compares `end`, which begins with it. None if there is no seal; the reason
    /// if the end is not what was written.
    pub(super) fn read(
        file: &dyn StorageFile,
        footer_at: u64,
        end: &[u8],
    ) -> io::Result<Result<Option<Checked>, String>> {
        let Some(rows_end) = footer_at.checked_sub(SEAL_BYTES as u64) else { return Ok(Ok(None)) };
        let mut bytes = [0; SEAL_BYTES];
        file.read_at(&mut bytes, rows_end)?;
        if bytes[..8] != MAGIC {
            return Ok(Ok(None));
        }
        let rows = u32::from_le_bytes(std::array::from_fn(|i| bytes[8 + i]));
        Ok(match Seal::of(rows, end).encode() == bytes {
            true => Ok(Some(Checked { rows, rows_end })),
            false => Err("its end does not match its checksum".to_owned()),
        })
    }

    /// Compares everything before the seal; the reason if it is not what was written.
    pub(super) fn compare_rows(self, file: &dyn StorageFile) -> io::Result<Result<(), String>> {
        let mut checksum = crc32fast::Hasher::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while offset < self.rows_end {
            let wanted = (self.rows_end - offset).min(READ_BYTES as u64) as usize;
            let count = file.read_at(&mut buffer[..wanted], offset)?;
            if count == 0 {
                break;
            }
            checksum.update(&buffer[..count]);
            offset += count as u64;
        }
        let is_same = checksum.finalize() == self.rows && offset == self.rows_end;
        Ok(is_same.then_some(()).ok_or_else(|| "its rows do not match their checksum".to_owned()))
    }
}
