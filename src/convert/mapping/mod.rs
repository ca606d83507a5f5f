//! Which Arrow types go into which Delta types, and how the columns of a batch find those of the table.
//!
//! `types.rs` is the table of types and the place to add one; `derive.rs` makes a table's columns when nobody
//! knows them; `matching.rs` puts batch and table together; `advice.rs` says what to do when that fails.

mod advice;
mod derive;
mod matching;
#[cfg(test)]
mod tests;
mod types;

use super::Policies;
use super::encode::OnNull;
use super::error::RowErrorReason;
pub(super) use matching::{Kind, Node, columns};
pub(super) use types::ValueType;

/// What the rows travel as. Each has other values that it cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Protobuf records.
    Protobuf,
    /// Arrow batches.
    Arrow,
}

/// What the columns of a batch and those of a table are matched by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) wire: Wire,
    pub(super) policies: Policies,
}

impl Rules {
    /// What becomes of a null in a list or map. Protobuf does not know it.
    fn on_null(self, refusal: RowErrorReason) -> OnNull {
        match self.wire {
            Wire::Protobuf => OnNull::Refuse(refusal),
            Wire::Arrow => OnNull::Omit,
        }
    }
}
