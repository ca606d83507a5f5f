//! The pump: reads durable frames in order, sends them as requests, settles what is acknowledged.
//!
//! ```text
//!  log ─► feed: requests ─► lane: stream, window ─► acknowledgement ─► settle: ledger, reclaim
//!            ▲                  │ failure
//!            └── from the last acknowledged row ──┘
//! ```
//!
//! A failure never needs the requests that were in flight: they are read again from the log, from the last
//! acknowledged row on. So memory is bounded by the window, whatever the outage.

mod chunk;
mod dropping;
mod failing;
mod fed;
mod feed;
mod grace;
mod inflight;
mod isolate;
mod lane;
mod opening;
mod parts;
mod plans;
mod recipe;
mod refusals;
mod requests;
mod retry;
mod settle;
mod state;

pub(crate) use grace::Grace;
pub(crate) use lane::{Lane, LaneSettings};
pub(crate) use plans::Plans;
pub(crate) use requests::Reads;
pub(crate) use settle::{Settler, SettlerStatus, TableToRemember};
pub use state::LaneState;
pub(crate) use state::LaneStatus;

use self::parts::Parts;
use crate::ledger::{Bent, LedgerRecord, Quarantined, Settled};
use crate::types::Lsn;

/// What acknowledgements add up to; the lane counts it, the settler makes it durable.
pub(crate) type Progress = LedgerRecord;

/// How far along the log a request ends, and what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Everything up to here is settled once the request is acknowledged.
    pub(crate) end: Settled,
    /// Frame and row of its first row.
    pub(crate) first: Option<(Lsn, u32)>,
    /// Frames whose last row it passes and that are delivered, as a whole or in part.
    pub(crate) frames: u64,
    /// Rows in this request.
    pub(crate) rows: u64,
    /// Frames before its last row that damage has taken.
    pub(crate) damaged_frames: u64,
    /// What is not in this request as it was in the frames.
    pub(crate) bent: Bent,
    /// Rows that it passes because they are in quarantine, and frames that end in it and are there as a whole.
    pub(crate) quarantined: Quarantined,
}

impl Span {
    fn add_to(&self, progress: &mut Progress) {
        progress.settled = self.end;
        progress.delivered_frames += self.frames;
        progress.delivered_rows += self.rows;
        progress.damaged_frames += self.damaged_frames;
        progress.bent += self.bent;
        progress.quarantined += self.quarantined;
    }
}
