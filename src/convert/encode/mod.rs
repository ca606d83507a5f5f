//! How rows are written: column by column into the places of their records.
//!
//! Arrow has columns, protobuf wants rows. A chunk of rows is measured column by column, the sums say
//! where each record starts, and each column then writes its values at the cursors of the records. The
//! type of a column is looked at once per chunk, a chunk stays in the cache, and nothing is allocated per row.
//!
//! ```text
//!           measure                          lay out            write
//!  id   ──► sizes  + 3   + 2   + 3           0, 41, 79          cursors of the records
//!  name ──► sizes  + 38  + 36  + 40   ─sum─►             ──────► id, then name, then …
//! ```
//!
//! Nested values repeat that one level below: the elements of all lists of a chunk are the slots of a level of
//! their own, whose sizes are summed up into those of the rows.

mod ahead;
mod column;
mod field;
mod list;
mod map;
mod message;
mod positions;
mod report;
mod source;
#[cfg(test)]
mod tests;
mod variant;
pub(super) mod wire;

use std::ops::Range;

pub(super) use column::{Conversion, Converted};
pub(super) use field::{Field, Header, NoValues, OnNull};
pub(super) use list::{FixedLists, ListViews, Lists, Offsets, Repeated};
pub(super) use map::Map;
pub(super) use message::Message;
pub(super) use positions::Way;
pub(super) use source::{Bits, FixedBytes, Numbers, Source, Strings, Views};
pub(super) use variant::{VariantAsIs, VariantAsJson};

use self::field::write_fields;
use self::positions::Slots;
use self::report::{Fault, Path, Report};
use super::Records;
use super::error::RowError;
use super::plan::Encoded;

/// How the parts of lists and maps are called in a path, by Delta as well.
pub(super) const ELEMENT_NAME: &str = "element";
pub(super) const KEY_NAME: &str = "key";
pub(super) const VALUE_NAME: &str = "value";

/// The bytes of a chunk: what the second pass reads and writes is still in the second-level cache.
const CHUNK_BYTES: usize = 256 * 1024;
/// Enough rows to make the dispatch per column cheap, few enough to keep what is noted per row in the cache.
const CHUNK_ROWS_MAX: usize = 512;
/// The rows of the first chunk, when nothing is known of their size.
const CHUNK_ROWS_FIRST: usize = 64;
/// How much larger than the last one a chunk may be.
const CHUNK_GROWTH: usize = 4;

/// Appends the rows to `out`, except those that are returned as refused.
pub(super) fn encode(fields: &mut [Box<dyn Field + '_>], rows: Range<usize>, out: &mut Records) -> Encoded {
    let mut encoded = Encoded::default();
    let mut chunk = Chunk::default();
    let mut chunk_rows = CHUNK_ROWS_FIRST;
    let mut start = rows.start;
    out.ends.reserve(rows.len());
    while start < rows.end {
        let end = rows.end.min(start + chunk_rows);
        let bytes_before = out.bytes();
        chunk.encode(fields, start..end, out, &mut encoded);
        let row_bytes = (out.bytes() - bytes_before) / (end - start);
        let fitting = (CHUNK_BYTES / row_bytes.max(1)).max(1);
        chunk_rows = fitting.min(chunk_rows * CHUNK_GROWTH).min(CHUNK_ROWS_MAX);
        start = end;
    }
    encoded
}

/// What [`encode`] would say about these rows, without writing them.
pub(super) fn check(fields: &mut [Box<dyn Field + '_>], rows: Range<usize>) -> Encoded {
    let mut encoded = Encoded::default();
    let mut chunk = Chunk::default();
    for start in rows.clone().step_by(CHUNK_ROWS_MAX) {
        let rows = start..rows.end.min(start + CHUNK_ROWS_MAX);
        chunk.look(fields, rows, &mut encoded, |field, slots, sizes, report| {
            field.check(slots, sizes, report)
        });
    }
    encoded
}

/// The rows in work.
#[derive(Default)]
struct Chunk {
    /// The rows that are written, once some of them are not.
    good: Vec<usize>,
    /// The size of each record first, then where its next field goes.
    places: Vec<usize>,
}

impl Chunk {
    fn encode(
        &mut self,
        fields: &mut [Box<dyn Field + '_>],
        rows: Range<usize>,
        out: &mut Records,
        encoded: &mut Encoded,
    ) {
        let has_refused = self.look(fields, rows.clone(), encoded, |field, slots, sizes, report| {
            field.measure(slots, sizes, report);
        });
        let Chunk { good, places } = self;
        let slots = match has_refused {
            true => Slots::Each(good),
            false => Slots::Run { first: rows.start, len: rows.len() },
        };
        let bytes = out.append(places);
        write_fields(fields, slots, places, bytes);
        debug_assert!(out.ends_with(places), "a value was measured and written differently");
    }

    /// Has each field look at the rows. Leaves the sizes of the records in `places`, if they measure them, and if there are
    /// refused rows the others in `good`; says whether there are.
    fn look(
        &mut self,
        fields: &mut [Box<dyn Field + '_>],
        rows: Range<usize>,
        encoded: &mut Encoded,
        look: impl Fn(&mut dyn Field, Slots<'_>, &mut [usize], &mut dyn Report),
    ) -> bool {
        let first_refused = encoded.refused.len();
        let Chunk { good, places } = self;
        let mut slots = Slots::Run { first: rows.start, len: rows.len() };
        // Once with and once without what is refused.
        loop {
            places.clear();
            places.resize(slots.len(), 0);
            let mut report = RowReport::new(slots, &mut encoded.refused);
            for field in fields.iter_mut() {
                look(field.as_mut(), slots, places, &mut report);
            }
            let RowReport { is_faulty, floored_timestamps, emptied_lists, .. } = report;
            if is_faulty.is_empty() {
                encoded.floored_timestamps += floored_timestamps;
                encoded.emptied_lists += emptied_lists;
                break;
            }
            let is_good = |slot: &usize| !is_faulty[*slot];
            *good = (0..slots.len()).filter(is_good).map(|slot| slots.position(slot)).collect();
            slots = Slots::Each(good);
        }
        // The columns found them in turn; the reader wants them by row.
        encoded.refused[first_refused..].sort_by_key(|error| error.row);
        encoded.refused.len() > first_refused
    }
}

/// Turns what is found in the columns into row errors, the first one of each row.
struct RowReport<'r> {
    slots: Slots<'r>,
    errors: &'r mut Vec<RowError>,
    /// One per slot, as soon as there is a fault.
    is_faulty: Vec<bool>,
    floored_timestamps: u64,
    emptied_lists: u64,
}

impl<'r> RowReport<'r> {
    fn new(slots: Slots<'r>, errors: &'r mut Vec<RowError>) -> RowReport<'r> {
        RowReport { slots, errors, is_faulty: Vec::new(), floored_timestamps: 0, emptied_lists: 0 }
    }
}

impl Report for RowReport<'_> {
    fn fault(&mut self, slot: usize, path: Path<'_>, fault: Fault<'_>) {
        self.is_faulty.resize(self.slots.len(), false);
        if !std::mem::replace(&mut self.is_faulty[slot], true) {
            self.errors.push(RowError {
                row: self.slots.position(slot),
                column: path.to_string(),
                value: (fault.value)(),
                reason: fault.reason,
            });
        }
    }

    fn floored_timestamps(&mut self, count: u64) {
        self.floored_timestamps += count;
    }

    fn emptied_lists(&mut self, count: u64) {
        self.emptied_lists += count;
    }
}
