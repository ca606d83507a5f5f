//! placeholder

pub mod types;
pub mod error;
pub mod config;
pub mod wrapper;
pub mod admission;
pub mod wal;
pub mod drain;
pub mod convert;
pub mod transport;
pub mod ledger;
pub mod io;
pub mod admin;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "emulator")]
pub mod emulator;
#[cfg(feature = "python")]
mod python;
