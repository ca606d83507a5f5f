//! placeholder

pub mod admin;
pub mod admission;
pub mod config;
pub mod convert;
pub mod drain;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod error;
pub mod io;
pub mod ledger;
#[cfg(feature = "python")]
mod python;
pub mod transport;
pub mod types;
pub mod wal;
pub mod wrapper;
