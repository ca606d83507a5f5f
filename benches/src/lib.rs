//! What the benchmarks share: methods of making an entry durable, slices of time in which they are measured, and
//! reports.
//!
//! A benchmark asks its questions of our log and of baselines in the same run, in turns, so that a noisy
//! machine disturbs all of them alike. What counts are the ratios.

#![expect(clippy::disallowed_methods, reason = "the baselines are the file system and the clock themselves")]

pub mod backlog;
pub mod conversion;
pub mod doc;
pub mod entries;
pub mod goals;
pub mod machine;
pub mod method;
pub mod ours;
pub mod raw;
pub mod reading;
pub mod report;
pub mod service;
#[cfg(feature = "crates")]
pub mod stores;
pub mod summary;

mod group;

/// The first failure ends a benchmark; whoever reads it is at the terminal.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// 1 KiB.
pub const KIB: usize = 1024;
/// 1 MiB.
pub const MIB: usize = 1024 * KIB;
