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

pub(super) use matching::{Kind, Node, columns};
