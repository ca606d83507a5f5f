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
mod fence;
mod grace;
mod inflight;
mod isolate;
mod lane;
mod opening;
mod parts;
mod plans;
mod pump;
mod recipe;
mod refill;
mod refusals;
mod requests;
mod retry;
mod settle;
mod staged;
mod state;

pub(crate) use grace::Grace;
pub(crate) use lane::{Lane, LaneSettings};
pub(crate) use plans::Plans;
pub(crate) use requests::Reads;
pub(crate) use settle::{Settler, SettlerStatus, TableToRemember};
pub use state::LaneState;
pub(crate) use state::LaneStatus;

use std::sync::Arc;

use self::parts::Parts;
use crate::ledger::{Bent, LedgerRecord, Quarantined, RecordedRequest, Settled, Streams};
use crate::types::Lsn;

/// What acknowledgements add up to, and what is sent on a persistent stream; the lane counts it, the settler makes it
/// durable, both at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) record: LedgerRecord,
    pub(crate) streams: Arc<Streams>,
}

impl Progress {
    /// Everything up to the end of this is acknowledged, or in quarantine.
    fn settle(&mut self, span: &Span) {
        span.add_to(&mut self.record);
        if self.streams.current.is_some() {
            Arc::make_mut(&mut self.streams).settle(span.end);
        }
    }
}

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
    fn add_to(&self, record: &mut LedgerRecord) {
        record.settled = self.end;
        record.delivered_frames += self.frames;
        record.delivered_rows += self.rows;
        record.damaged_frames += self.damaged_frames;
        record.bent += self.bent;
        record.quarantined += self.quarantined;
    }

    /// What is recorded of it before it is sent. `holes` is the checksum of the rows that it passes.
    fn recorded(&self, holes: u32) -> RecordedRequest {
        let Span { end, frames, rows, damaged_frames, bent, quarantined, .. } = *self;
        RecordedRequest { end, frames, rows, damaged_frames, bent, quarantined, holes }
    }
}

impl From<&RecordedRequest> for Span {
    fn from(recorded: &RecordedRequest) -> Span {
        let RecordedRequest { end, frames, rows, damaged_frames, bent, quarantined, .. } = *recorded;
        Span { end, first: None, frames, rows, damaged_frames, bent, quarantined }
    }
}
