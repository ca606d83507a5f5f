//! How single values are written, and which of them cannot be.
//!
//! A writer is for one protobuf type and knows the range of its Delta type; the types of values that it takes are
//! those that it can write without loss.

mod decimal;
mod numbers;
mod temporal;
mod text;
mod variant;

pub(super) use decimal::{Decimal, DecimalAsText, DecimalText, Unscaled};
pub(super) use numbers::{Double, ExactSingle, Flag, Single, ToLong, Whole, WholeDouble, WholeSingle};
pub(super) use temporal::{
    DurationText, Formatted, IntervalText, Micros, MillisAsDays, NanosAsMicros, TimeText,
};
pub(super) use text::{Json, Raw, UuidText};
pub(super) use variant::put_variant;

use super::error::RowErrorReason;

/// Writes values of the type `V`.
pub(super) trait Write<V: Copy> {
    /// Whether every value has a size and none loses anything, so that nobody has to look for those that do.
    const TAKES_ALL: bool = false;

    /// What [`put`](Write::put) will write; none if the value cannot be written.
    fn size(&self, value: V) -> Option<usize>;

    /// Writes the value at `at`, without its key, and returns where it ends. Only for values that have a size.
    fn put(&self, value: V, out: &mut [u8], at: usize) -> usize;

    /// Why a value has no size.
    fn reason(&self, value: V) -> RowErrorReason;

    /// The value, for the text of an error.
    fn text(&self, value: V) -> String;

    /// Whether the value loses nanoseconds.
    #[inline]
    fn is_floored(&self, _value: V) -> bool {
        false
    }
}
