//! A write-ahead durable buffer between Arrow record batches and Databricks Zerobus.
//!
//! The life of a batch, and of the modules in that order:
//!
//! ```text
//!  send_batch ─► admission ─► wal ─ sync ─► the caller resumes: durable at LSN n
//!   (wrapper)                  └► drain ─► convert ─► transport ─► Zerobus
//!                                   ├► quarantine (refused rows)    │
//!                                   └► ledger ◄─ acknowledgement ◄──┘
//!                                        └► wal: reclaim
//! ```
//!
//! [`ZerobusWrapper::send_batch`] appends the batch to the log of its table and returns once it is durable.
//! A lane reads the log behind it, converts and sends, retries for as long as it takes, and settles
//! only what the service has acknowledged. After a crash the next owner of the log goes on from there.
#![cfg_attr(
    not(unix),
    expect(dead_code, reason = "what others ask of an owner comes over a socket that only Unix has")
)]

pub mod types;

pub mod error;

#[cfg(test)]
mod error_page;

#[cfg(test)]
mod generated_page;

pub mod config;

mod wrapper;

mod admission;

pub mod wal;

mod drain;

pub mod convert;

mod catalog;

pub mod transport;

mod principal;

mod oauth;

mod trust;

mod http;

pub mod ledger;

mod quarantine;

pub mod io;

mod platform;

pub mod reclaim;

pub mod canary;

pub mod deaths;

mod sync;

mod demand;

mod pause;

mod recent;

#[cfg(all(feature = "jemalloc", unix))]
mod allocator;

mod reserve;

mod debug_files;

pub mod telemetry;

pub mod admin;

#[cfg(feature = "emulator")]
pub mod emulator;

#[cfg(feature = "cli")]
pub mod cli;

#[cfg(feature = "python")]
mod python;

pub use admission::Full;
pub use config::{
    Compression, DeliveryGuarantee, LogExport, OnFull, OtlpProtocol, TransportKind, Validate, WaitFor,
    WrapperConfiguration,
};
pub use convert::{NullList, TimestampNs};
pub use drain::LaneState;
pub use pause::Pause;
pub use quarantine::QuarantineReport;
pub use wal::Durability;
pub use wrapper::{
    AdoptionReport, BatchState, Counts, DeliveryError, ForkedProcess, LaneReport, OpenError, ROWS_NAMED_MAX,
    STATUS_VERSION, SendError, SendFailure, ShutdownError, Status, TableReport, TransmissionResult,
    UpdateError, ZerobusWrapper,
};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
