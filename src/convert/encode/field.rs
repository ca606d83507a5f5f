//! What all fields of a message have in common, whatever their type.

use super::positions::{Present, Slots};
use super::report::{Fault, Path, Report};
use super::wire::Key;
use crate::convert::error::RowErrorReason;

/// A field of a message, or the elements of a list, bound to an array.
///
/// Measuring and writing take turns: what [`measure`](Field::measure) finds out about the slots is kept for the
/// [writing](write_fields) of the same slots.
pub(in crate::convert) trait Field {
    /// Adds to the size of each slot what its value takes with its key, or reports why it cannot be written.
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report);

    /// Reports what [`measure`](Field::measure) would, when nothing is to be written; the sizes are anything then.
    fn check(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        self.measure(slots, sizes, report);
    }

    /// Called before any field of the slots is written, with the starts of their messages.
    fn write_ahead(&mut self, _slots: Slots<'_>, _starts: &[usize], _out: &mut [u8]) {}

    /// Writes key and value at the cursor of each slot and moves that on.
    fn write(&mut self, slots: Slots<'_>, cursors: &mut [usize], out: &mut [u8]);

    /// The value at a position of the array, for the text of an error.
    fn text(&mut self, position: usize) -> String;
}

/// Writes the fields of messages that start at these places, which move on to their ends.
pub(super) fn write_fields(
    fields: &mut [Box<dyn Field + '_>],
    slots: Slots<'_>,
    places: &mut [usize],
    out: &mut [u8],
) {
    for field in fields.iter_mut() {
        field.write_ahead(slots, places, out);
    }
    for field in fields {
        field.write(slots, places, out);
    }
}

/// What a field is called and what it does without a value.
#[derive(Clone, Debug)]
pub(in crate::convert) struct Header {
    /// As it stands in the path of a row error.
    pub(in crate::convert) name: String,
    pub(in crate::convert) key: Key,
    pub(in crate::convert) on_null: OnNull,
}

/// What a null becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::convert) enum OnNull {
    /// A missing field.
    Omit,
    /// An empty list; counted.
    Empty,
    /// The row is refused.
    Refuse(RowErrorReason),
}

impl Header {
    /// Reports the slots without a value, if that matters.
    pub(super) fn report_missing(&self, present: Present<'_>, slots_len: usize, report: &mut dyn Report) {
        if present.len() == slots_len {
            return;
        }
        match self.on_null {
            OnNull::Omit => {}
            OnNull::Empty => report.emptied_lists((slots_len - present.len()) as u64),
            OnNull::Refuse(reason) => {
                for slot in present.missing(slots_len) {
                    report.fault(slot, Path::to(&self.name), Fault { reason, value: &|| "null".to_owned() });
                }
            }
        }
    }
}

/// A field of which every value is null: Arrow has a type for that.
pub(in crate::convert) struct NoValues<'a>(pub(in crate::convert) &'a Header);

impl Field for NoValues<'_> {
    fn measure(&mut self, slots: Slots<'_>, _: &mut [usize], report: &mut dyn Report) {
        let present = Present::Some { slots: &[], positions: &[] };
        self.0.report_missing(present, slots.len(), report);
    }

    fn write(&mut self, _: Slots<'_>, _: &mut [usize], _: &mut [u8]) {}

    fn text(&mut self, _: usize) -> String {
        "null".to_owned()
    }
}
