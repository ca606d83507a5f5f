//! The columns of the table, as Unity Catalog tells them.
//!
//! ```text
//!  open ──────┐                                       ┌─► send_batch: can this batch ever fit?
//!  new stream ┼─► reader ─► client ─► known table ────┼─► drain: into which columns?
//!  a misfit ──┘     one at a time          ▲          └─► ledger: for a start without network
//!                                          └─ ledger
//! ```
//!
//! The catalog is an adviser and no condition. It is asked before each stream is opened; while it is away the columns
//! that were known last are used. When it refuses us, has no such table, or the table has columns that this
//! program does not know, nothing is known, and the descriptor of a stream comes from the Arrow schema. None of
//! that keeps a stream from being opened.

mod client;
mod columns;
mod error;
mod known;
mod reader;

pub(crate) use client::Catalog;
pub(crate) use error::{CatalogError, CatalogErrorClass};
pub(crate) use known::{Known, KnownTable};
pub(crate) use reader::Reader;
