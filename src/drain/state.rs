//! What a lane is doing, for `status`, `flush` and everyone who waits.

use serde::{Deserialize, Serialize};

use crate::ledger::Streams;
use crate::transport::TransportError;

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LaneState {
    /// Everything is settled; no stream is needed.
    Idle,
    /// A stream is being opened.
    Connecting,
    /// Requests are on their way.
    Streaming,
    /// The service has refused rows and named none; they are being looked for.
    Isolating,
    /// Waiting before the next attempt, after a failure that passes by itself.
    BackingOff,
    /// The destination refuses us; probing until somebody changes that.
    Blocked,
    /// The table has no place for a schema, or refused rows cannot be put into quarantine; probing until the table or
    /// the quarantine changes, or the time for that is over.
    Poison,
    /// The log cannot be read; trying again.
    Unreadable,
    /// Somebody has paused delivery; nothing is in flight.
    Paused,
    /// Shut down.
    Stopped,
}

impl LaneState {
    /// The name that `status` shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            LaneState::Idle => "idle",
            LaneState::Connecting => "connecting",
            LaneState::Streaming => "streaming",
            LaneState::Isolating => "isolating",
            LaneState::BackingOff => "backing_off",
            LaneState::Blocked => "blocked",
            LaneState::Poison => "poison",
            LaneState::Unreadable => "unreadable",
            LaneState::Paused => "paused",
            LaneState::Stopped => "stopped",
        }
    }
}

/// A lane's state with its reasons.
#[derive(Clone, Debug)]
pub(crate) struct LaneStatus {
    /// What the lane is doing.
    pub(crate) state: LaneState,
    /// Why it does not deliver; cleared by the next acknowledgement.
    pub(crate) failure: Option<TransportError>,
    /// Failed attempts since the last acknowledgement.
    pub(crate) failures_in_a_row: u32,
    /// Failed attempts since the lane began.
    pub(crate) failures: u64,
    /// Streams opened since the lane began.
    pub(crate) streams_opened: u64,
    /// Rows that were on their way when a stream failed that forgets them, since the lane began.
    pub(crate) resent_rows: u64,
    /// The persistent stream in use.
    pub(crate) stream_id: Option<String>,
    /// Rows that may be in the table twice although that was to be exactly once, since the log began.
    pub(crate) doubtful_rows: u64,
}

impl LaneStatus {
    pub(super) fn tell(&mut self, streams: &Streams) {
        self.stream_id = streams.current.as_ref().map(|current| current.id.clone());
        self.doubtful_rows = streams.doubtful_rows;
    }

    pub(super) fn new(streams: &Streams) -> LaneStatus {
        let mut status = LaneStatus {
            state: LaneState::Idle,
            failure: None,
            failures_in_a_row: 0,
            failures: 0,
            streams_opened: 0,
            resent_rows: 0,
            stream_id: None,
            doubtful_rows: 0,
        };
        status.tell(streams);
        status
    }
}
