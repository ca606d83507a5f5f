//! What operators ask of a log: data, no printing.
//!
//! A live log answers through its owner's socket. A dead one is read from its files, without its lock
//! and without writing.

#![expect(clippy::disallowed_methods, reason = "sockets and listings of operators are no part of the log")]

mod adopting;
pub mod doctor;
mod freeing;
mod pausing;
mod peer;
mod progress;
pub mod remap;
pub mod repair;
mod protocol;
pub mod socket;
mod status;

pub use crate::wrapper::SegmentFate;
pub use adopting::{ADOPT_VERSION, Orphan, adopt};
pub use freeing::{RECLAIM_VERSION, Reclaim, ReclaimError, reclaim};
pub use pausing::{PAUSE_VERSION, PauseChange, PauseError, pause, resume};
pub use progress::Progress;
pub use protocol::AskError;
pub use status::{StatusError, find_logs, status};
