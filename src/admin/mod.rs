//! What operators ask of a log: data, no printing.
//!
//! A live log answers through its owner's socket. A dead one is read from its files, without its lock
//! and without writing.

#![expect(clippy::disallowed_methods, reason = "sockets and listings of operators are no part of the log")]

mod adopting;
pub mod check;
pub mod doctor;
mod freeing;
pub mod inspect;
pub mod list;
mod pausing;
mod peer;
mod progress;
pub mod remap;
pub mod repair;
pub mod settings;
pub mod socket;
mod status;
#[cfg(test)]
mod testing;
pub mod verify;

pub use crate::wrapper::SegmentFate;
pub use adopting::{ADOPT_VERSION, Orphan, adopt};
pub use freeing::{RECLAIM_VERSION, Reclaim, ReclaimError, reclaim};
pub use pausing::{PAUSE_VERSION, PauseChange, PauseError, pause, resume};
pub use progress::Progress;
pub use socket::AskError;
#[cfg(feature = "cli")]
mod chosen;
#[cfg(feature = "cli")]
pub mod export;
#[cfg(feature = "cli")]
pub mod kept;
#[cfg(feature = "cli")]
pub mod reconcile;
#[cfg(feature = "cli")]
pub mod replay;
#[cfg(feature = "cli")]
mod select;
#[cfg(feature = "cli")]
pub use chosen::{ChooseError, LogsError, Unreadable};
#[cfg(feature = "cli")]
pub use export::export;
#[cfg(feature = "cli")]
pub use kept::{quarantine_batches, quarantine_drop, quarantine_list, quarantine_rows};
pub use list::{find_logs, statuses};
#[cfg(feature = "cli")]
pub use reconcile::reconcile;
#[cfg(feature = "cli")]
pub use replay::{replay, replay_dry_run};
#[cfg(feature = "cli")]
pub use select::{Lsns, Moment, REASONS, RowState, Selection, SelectionError, rfc3339};
pub use status::{StatusError, status};
