//! What is said of bytes that are not what was written.

use std::{fmt, ops::RangeInclusive, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::types::Lsn;

/// A stretch of the log that cannot be read. It is reported and stepped over, never deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The file.
    pub segment: PathBuf,
    /// Where the stretch begins.
    pub offset: u64,
    /// How long it is; 0 if the bytes are not there at all.
    pub bytes: u64,
    /// The frames that are lost with it, if any are.
    pub lsns: Option<RangeInclusive<Lsn>>,
    /// What is wrong.
    pub reason: DamageReason,
}

/// What is wrong with a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DamageReason {
    /// No frame can be made out where one was known to be durable.
    Overwritten,
    /// Zeros stand where a frame was known to be durable.
    Zeros,
    /// The last group before a crash reached the disk in part: there are whole frames behind the
    /// stretch, but nothing proves that it was ever synced.
    Unsynced,
    /// The header of a frame is whole, its body is not.
    Body,
    /// The batch is whole, but its schema is not, and no other segment has it.
    Schema,
    /// The block that the segment begins with is not whole; its frames are used all the same.
    SegmentHeader,
    /// The frames of a sealed segment are whole, but they are not those that its footer names.
    Footer,
    /// Nothing in the file can be made out.
    Unreadable,
    /// The segment is of another log, or has another segment's name.
    Foreign,
    /// The frames are not there: a segment is missing, or ends too early.
    Missing,
}

impl fmt::Display for DamageReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DamageReason::Overwritten => "no frame can be made out where one was durable",
            DamageReason::Zeros => "zeros stand where a frame was durable",
            DamageReason::Unsynced => "the last group before a crash reached the disk in part",
            DamageReason::Body => "the body of a frame does not match its checksum",
            DamageReason::Schema => "the schema of a frame is lost",
            DamageReason::SegmentHeader => "the segment header does not match its checksum",
            DamageReason::Footer => "the footer names other frames than there are",
            DamageReason::Unreadable => "nothing in the file can be made out",
            DamageReason::Foreign => "the segment belongs to another log or has another's name",
            DamageReason::Missing => "the frames are not there",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.segment.display())?;
        if self.bytes > 0 {
            write!(f, ", {} bytes at {}", self.bytes, self.offset)?;
        }
        match &self.lsns {
            Some(lsns) if lsns.start() == lsns.end() => write!(f, ", frame {}", lsns.start())?,
            Some(lsns) => write!(f, ", frames {} to {}", lsns.start(), lsns.end())?,
            None => {}
        }
        write!(f, ": {}", self.reason)
    }
}
