//! What operators ask of a log: data, no printing.
//!
//! A live log answers through its owner's socket. A dead one is read from its files, without its lock
//! and without writing.

#![expect(clippy::disallowed_methods, reason = "sockets and listings of operators are no part of the log")]

mod adopting;
pub mod check;
#[cfg(feature = "cli")]
mod chosen;
pub mod doctor;
#[cfg(feature = "cli")]
pub mod export;
mod freeing;
pub mod inspect;
#[cfg(feature = "cli")]
pub mod kept;
pub mod list;
mod pausing;
mod progress;
mod protocol;
#[cfg(feature = "cli")]
pub mod reconcile;
pub mod remap;
pub mod repair;
#[cfg(feature = "cli")]
pub mod replay;
#[cfg(feature = "cli")]
mod select;
pub mod settings;
#[cfg(unix)]
pub mod socket;
#[cfg(not(unix))]
#[path = "no_socket.rs"]
pub mod socket;
mod status;
#[cfg(test)]
mod testing;
pub mod verify;

pub use crate::wrapper::SegmentFate;
pub use adopting::{ADOPT_VERSION, Orphan, adopt};
#[cfg(feature = "cli")]
pub use chosen::{ChooseError, LogsError, Unreadable};
#[cfg(feature = "cli")]
pub use export::export;
pub use freeing::{RECLAIM_VERSION, Reclaim, ReclaimError, reclaim};
#[cfg(feature = "cli")]
pub use kept::{quarantine_batches, quarantine_drop, quarantine_list, quarantine_rows};
pub use list::{find_logs, statuses};
pub use pausing::{PAUSE_VERSION, PauseChange, PauseError, pause, resume};
pub use progress::Progress;
pub use protocol::AskError;
#[cfg(feature = "cli")]
pub use reconcile::reconcile;
#[cfg(feature = "cli")]
pub use replay::{replay, replay_dry_run};
#[cfg(feature = "cli")]
pub use select::{Lsns, Moment, REASONS, RowState, Selection, SelectionError, rfc3339};
pub use status::{StatusError, status};

/// The word for one, or the one for several.
pub(crate) fn word<'a>(count: u64, one: &'a str, several: &'a str) -> &'a str {
    if count == 1 { one } else { several }
}
