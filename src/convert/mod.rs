//! Arrow → Delta types → protobuf: how a batch becomes the records that Zerobus takes.
//!
//! ```text
//!  TableSchema ─┬► descriptor   what the service is told
//!               └► matching ─► Plan ─► bind ─► encode       rows of a batch ─► Records ─► cut ─► requests
//!  Schema ────────┘
//! ```
//!
//! For Arrow Flight the same matching makes an [`ArrowPlan`], which converts columns into columns.
//!
//! The plan is made once per Arrow schema. All questions about types are answered there, so that
//! encoding asks none per cell. What is lossless and what is refused stands in one table,
//! `mapping/types.rs`: a new Arrow type is added there.
//!
//! A value is never bent to fit. What protobuf or the service cannot hold is a [`ConversionError`]
//! when the type says so, a [`RowError`] when only the value does. The exceptions have a name and are counted:
//! [`Policies`].

mod arrow;
mod bind;
mod descriptor;
mod encode;
mod error;
mod mapping;
mod plan;
mod policy;
mod records;
mod runs;
mod split;
mod table;
#[cfg(test)]
mod testing;
mod values;

pub use arrow::ArrowPlan;
pub(crate) use arrow::rows_within;
pub(crate) use descriptor::of_table as table_descriptor;
pub use error::{ConversionError, RowError, RowErrorReason};
pub use plan::{Encoded, Plan};
pub use policy::{NullList, Policies, TimestampNs, UnknownPolicy};
pub use records::Records;
pub use runs::RecordRuns;
pub use split::Cut;
pub use table::{DeltaType, TableColumn, TableSchema};
