//! Fields of long values: they are written before all others.
//!
//! The memory of a chunk is not in the cache when the first field is written. Long values fill nearly all of it, one record
//! after the other, and the processor fetches what comes next in time. Short values would wait for each record.

use super::field::Field;
use super::positions::Slots;
use super::report::Report;

/// Values of at least this many bytes are long: the record is no longer one or two lines of the cache.
pub(super) const LONG_BYTES: usize = 256;

/// A field that is written before the others.
pub(super) struct Ahead<'a> {
    field: Box<dyn Field + 'a>,
    /// What comes before the field in each slot, then where the field ends.
    places: Vec<usize>,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(field: Box<dyn Field + 'a>) -> Ahead<'a> {
        Ahead { field, places: Vec::new() }
    }
}

impl Field for Ahead<'_> {
    fn measure(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        self.places.clear();
        self.places.extend_from_slice(sizes);
        self.field.measure(slots, sizes, report);
    }

    fn check(&mut self, slots: Slots<'_>, sizes: &mut [usize], report: &mut dyn Report) {
        self.field.check(slots, sizes, report);
    }

    fn write_ahead(&mut self, slots: Slots<'_>, starts: &[usize], out: &mut [u8]) {
        self.places.iter_mut().zip(starts).for_each(|(place, start)| *place += start);
        self.field.write(slots, &mut self.places, out);
    }

    fn write(&mut self, _: Slots<'_>, cursors: &mut [usize], _: &mut [u8]) {
        cursors.copy_from_slice(&self.places);
    }

    fn text(&mut self, position: usize) -> String {
        self.field.text(position)
    }
}
