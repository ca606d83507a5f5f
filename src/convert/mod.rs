//! Arrow → Delta types → protobuf: how a batch becomes the records that Zerobus takes.
//!
//! ```text
//!  Schema ─► Plan::new ─► descriptor   what the service is told
//!                └──────► encode       rows of a batch ─► Records ─► cut ─► requests
//! ```
//!
//! The plan is made once per Arrow schema. All questions about types are answered there, so that
//! encoding asks none per cell. What is lossless and what is refused stands in one table,
//! `Conversion::of` in `types.rs`: a new Arrow type is added there.
//!
//! A value is never bent to fit. What protobuf or the service cannot hold is a [`ConversionError`]
//! when the type says so, a [`RowError`] when only the value does. The one exception is the
//! timestamp in nanoseconds: the service counts in microseconds and gets the microsecond in which the
//! instant lies (the floor, before 1970 too).

mod descriptor;
mod encode;
mod error;
mod plan;
mod policy;
mod positions;
mod records;
mod split;
mod table;
mod types;

pub use error::{ConversionError, RowError, RowErrorReason};
pub use plan::{Encoded, Plan};
pub use policy::{NullList, Policies, TimestampNs, UnknownPolicy};
pub use records::Records;
pub use split::Cut;
pub use table::{DeltaType, TableColumn, TableSchema};
