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
//!
//! With several streams there is one feed too; `dealing.rs` deals its requests out, and what one stream loses is read
//! again for any of them (`fan.rs`), past everything that the others have delivered or still have in flight.

mod chunk;
mod covered;
mod dealing;
mod dropping;
mod failing;
mod fan;
mod fed;
mod feed;
mod fence;
mod grace;
mod inflight;
mod isolate;
mod lane;
mod opening;
mod parts;
mod pausing;
mod piece;
mod plans;
mod pump;
mod recipe;
mod refill;
mod refusals;
mod requests;
mod retry;
mod settle;
mod slot;
mod staged;
mod state;
mod trim;

pub(crate) use grace::Grace;
pub(crate) use lane::{Lane, LaneSettings};
pub(crate) use plans::Plans;
pub(crate) use requests::Reads;
pub(crate) use settle::{Settler, SettlerStatus, TableToRemember};
pub use state::LaneState;
pub(crate) use state::LaneStatus;

use std::sync::Arc;

use self::covered::Covered;
use self::parts::Parts;
use crate::ledger::{
    Bent, LedgerRecord, Quarantined, Ranges, RecordedRequest, Settled, SettledRange, Streams,
};
use crate::types::Lsn;

/// What acknowledgements add up to, and what is sent on a persistent stream; the lane counts it, the settler makes it
/// durable, both at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) record: LedgerRecord,
    /// What is settled above the watermark, when several streams are acknowledged in no common order.
    pub(crate) ranges: Arc<Ranges>,
    pub(crate) streams: Arc<Streams>,
    /// How many acknowledgements this is, in this process.
    pub(crate) acknowledgements: u64,
}

impl Progress {
    /// All of this is acknowledged, or in quarantine. With one stream, so is everything before it.
    fn settle(&mut self, span: &Span) {
        self.acknowledgements += 1;
        span.add_to(&mut self.record);
        let settled = &mut self.record.settled;
        if self.ranges.is_empty() && span.start <= *settled {
            *settled = span.end;
        } else {
            Arc::make_mut(&mut self.ranges).settle(settled, span.settled());
        }
        if self.streams.current.is_some() {
            Arc::make_mut(&mut self.streams).settle(self.record.settled);
        }
    }
}

/// Which stretch of the log a request is, and what it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// It begins behind this.
    pub(crate) start: Settled,
    /// Everything from there up to here is settled once the request is acknowledged.
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
        record.delivered_frames += self.frames;
        record.delivered_rows += self.rows;
        record.damaged_frames += self.damaged_frames;
        record.bent += self.bent;
        record.quarantined += self.quarantined;
    }

    fn settled(&self) -> SettledRange {
        let Span { start, end, frames, rows, damaged_frames, quarantined, .. } = *self;
        let frames = frames + damaged_frames + quarantined.frames;
        SettledRange { start, end, frames, rows: rows + quarantined.rows, requests: 1 }
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
        // It begins where the one before it ended: where everything is settled when its turn comes.
        let start = Settled::default();
        Span { start, end, first: None, frames, rows, damaged_frames, bent, quarantined }
    }
}
