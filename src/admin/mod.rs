//! What operators ask of a log: data, no printing.
//!
//! A live log answers through its owner's socket. A dead one is read from its files, without its lock
//! and without writing.

#![expect(clippy::disallowed_methods, reason = "sockets and listings of operators are no part of the log")]

pub mod check;
pub mod inspect;
pub mod list;
mod progress;
pub mod settings;
pub mod socket;
mod status;
#[cfg(test)]
mod testing;
pub mod verify;

pub use list::{find_logs, statuses};
pub use progress::Progress;
pub use socket::resume;
pub use status::{StatusError, status};
