//! The promise: after `append` returns, the batch survives a crash.
//!
//! ```text
//!  PreparedFrame ─► Wal::append ─► queue ─► appender ─ one durable write ─► Append answers
//!                                              │
//!   segment-…1.wal │ segment-…2.wal │ segment-…3.wal (open)
//!   reclaim ──►     sealed            ▲ LogReader        ▲ durable ≤ appended
//!     └──► spare ──────────────────► the next segment
//! ```
//!
//! A log is a directory that one process owns: an identity file, a lock file and numbered segments.
//! A segment is a header and frames; a sealed one ends in a footer, so that opening a log reads the
//! ends of its segments and scans only what was not sealed. `format` owns the bytes, `queue` and
//! `appender` the way in, `segment` and `spare` the files, `recovery` and `scan` the decisions after a crash, `walk`,
//! `read_ahead` and `tail` the way out;
//! `docs/internals/file-format.md` and `docs/internals/recovery.md` are the same for readers
//! without the code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod ahead;
mod aligned;
mod appender;
mod checking;
mod compact;
mod context;
mod copy;
mod count;
mod damage;
mod directory;
mod encode;
mod error;
#[cfg(any(feature = "python", test))]
mod flat;
mod format;
mod frame;
mod index;
mod log;
mod look;
mod memory;
mod mend;
mod messages;
mod pool;
mod queue;
mod read_ahead;
mod recovery;
mod scan;
mod segment;
mod spare;
mod tail;
#[cfg(test)]
pub(crate) mod testing;
mod view;
mod walk;

pub(crate) use compact::compact;
pub(crate) use copy::FrameCopy;
pub use damage::{Damage, DamageReason};
pub(crate) use directory::find_log;
pub use directory::{Destination, LogDirectory, Owner, is_log, owner};
pub(crate) use directory::{identity, identity_path, lock, owner_as_far_as_known, write_new_identity};
pub use encode::SchemaFingerprint;
pub use error::{AppendError, FrameError, OpenError, ReadError};
#[cfg(feature = "python")]
pub(crate) use flat::{BUFFERS_MAX, COLUMNS_MAX, FlatColumn, FlatSchema, flat_buffers};
#[cfg(feature = "cli")]
pub(crate) use format::LOCK_FILE;
#[cfg(feature = "python")]
pub(crate) use frame::LARGE_BYTES_MIN;
pub(crate) use frame::Sharing;
pub use frame::{Frame, PreparedFrame};
pub use index::{Count, SegmentInfo};
pub use log::{Known, Reclaimed, Wal};
pub(crate) use look::{Bodies, FramePiece, Head, Piece, PieceKind, Pieces, SegmentLook, is_set_aside};
pub(crate) use mend::{Stray, Strays, epoch, strays};
pub use queue::{Append, Appended};
pub use recovery::Recovery;
pub use tail::{LogReader, Next};
pub use view::LogView;
pub(crate) use view::SegmentPlace;

/// When an append answers, and what a crash of the machine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// After the sync that covers it: nothing that was promised is lost.
    Sync,
    /// After the write; a sync follows within the interval. A power cut takes what came since the
    /// last one.
    Interval(Duration),
    /// After the write; the operating system syncs when it likes.
    Os,
}

/// How a log writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// How long a segment may become, in whole blocks of 4096 bytes; a frame that does not fit into one is
    /// refused.
    pub segment_bytes: u64,
    /// When an append answers.
    pub durability: Durability,
    /// How many files of settled segments are kept to become segments again, while the log is open.
    pub spare_segments: usize,
}
