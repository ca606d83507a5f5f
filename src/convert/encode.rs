//! How rows are written: column by column into the places of their records.
//!
//! Arrow has columns, protobuf wants rows. A chunk of rows is measured column by column, the sums say
//! where each record starts, and each column then writes its values at the cursors of the records. The
//! type of a column is looked at once per chunk, a chunk stays in the cache, and nothing is allocated per row.

use std::ops::Range;

use arrow_array::Array;
use prost::encoding::{WireType, encode_key, key_len};

use super::Records;
use super::error::{RowError, RowErrorReason};
use super::positions::{NULL, Positions};
use super::types::{Fault, Value};

/// Rows that are measured and then written together: few enough that what the second pass reads and
/// writes is still in the cache, enough to make the dispatch per column cheap.
const CHUNK_ROWS: usize = 256;

/// One column of a batch, ready to be read.
pub(super) struct Column<'a> {
    pub(super) name: &'a str,
    pub(super) number: u32,
    pub(super) wire_type: WireType,
    pub(super) is_required: bool,
    pub(super) positions: Box<dyn Positions + 'a>,
    pub(super) values: Box<dyn Values + 'a>,
}

/// The values of a column; the loops over rows are inside, where the type is known.
pub(super) trait Values {
    /// Adds key and value of each position that is not null to the size of its row, or reports the row.
    fn measure(
        &self,
        key_len: usize,
        positions: &[usize],
        sizes: &mut [usize],
        report: &mut dyn FnMut(usize, Fault),
    );

    /// Writes key and value of each position that is not null at the cursor of its row and moves that on.
    fn write(&self, key: (u32, WireType), positions: &[usize], cursors: &mut [usize], out: &mut [u8]);
}

/// Finds the values in an array, if it has the right type.
pub(super) type Bind = for<'a> fn(&'a dyn Array) -> Option<Box<dyn Values + 'a>>;

/// The [`Bind`] of one kind of value.
pub(super) fn bind<V: Value>(array: &dyn Array) -> Option<Box<dyn Values + '_>> {
    let array = array.as_any().downcast_ref::<V::Array>()?;
    Some(Box::new(Typed::<V>(array)))
}

struct Typed<'a, V: Value>(&'a V::Array);

impl<V: Value> Values for Typed<'_, V> {
    fn measure(
        &self,
        key_len: usize,
        positions: &[usize],
        sizes: &mut [usize],
        report: &mut dyn FnMut(usize, Fault),
    ) {
        for (row, (&position, size)) in positions.iter().zip(sizes).enumerate() {
            if position != NULL {
                match V::size(self.0, position) {
                    Ok(value_size) => *size += key_len + value_size,
                    Err(fault) => report(row, fault),
                }
            }
        }
    }

    fn write(
        &self,
        (number, wire_type): (u32, WireType),
        positions: &[usize],
        cursors: &mut [usize],
        out: &mut [u8],
    ) {
        for (&position, cursor) in positions.iter().zip(cursors) {
            if position != NULL {
                let mut rest = &mut out[*cursor..];
                let space = rest.len();
                encode_key(number, wire_type, &mut rest);
                V::put(self.0, position, &mut rest);
                *cursor += space - rest.len();
            }
        }
    }
}

/// Appends the rows to `out`, except those that it returns, in their order.
pub(super) fn encode(columns: &[Column<'_>], rows: Range<usize>, out: &mut Records) -> Vec<RowError> {
    let mut errors = Vec::new();
    let mut chunk = Chunk::default();
    out.ends.reserve(rows.len());
    for start in rows.clone().step_by(CHUNK_ROWS) {
        let first_error = errors.len();
        chunk.reset(start..rows.end.min(start + CHUNK_ROWS));
        for column in columns {
            chunk.measure(column, &mut errors);
        }
        // The columns found them in turn; the reader wants them by row.
        errors[first_error..].sort_by_key(|error: &RowError| error.row);
        chunk.lay_out(out);
        for column in columns {
            chunk.write(column, &mut out.bytes);
        }
        debug_assert!(chunk.has_filled(out), "a value was measured and written differently");
    }
    errors
}

/// The rows in work. All vectors are as long as they are many.
#[derive(Default)]
struct Chunk {
    rows: Range<usize>,
    /// Where the values of the column in work stand.
    positions: Vec<usize>,
    /// The size of each record first, then where its next field goes.
    places: Vec<usize>,
    /// Rows that are not written.
    is_faulty: Vec<bool>,
}

impl Chunk {
    fn reset(&mut self, rows: Range<usize>) {
        self.positions.resize(rows.len(), NULL);
        self.places.clear();
        self.places.resize(rows.len(), 0);
        self.is_faulty.clear();
        self.is_faulty.resize(rows.len(), false);
        self.rows = rows;
    }

    fn measure(&mut self, column: &Column<'_>, errors: &mut Vec<RowError>) {
        column.positions.fill(self.rows.clone(), &mut self.positions);
        let mut report = |row: usize, fault: Fault| {
            if !std::mem::replace(&mut self.is_faulty[row], true) {
                errors.push(RowError {
                    row: self.rows.start + row,
                    column: column.name.to_owned(),
                    value: fault.value,
                    reason: fault.reason,
                });
            }
        };
        if column.is_required {
            for (row, _) in self.positions.iter().enumerate().filter(|(_, position)| **position == NULL) {
                report(row, Fault { value: "null".to_owned(), reason: RowErrorReason::NullInRequired });
            }
        }
        column.values.measure(key_len(column.number), &self.positions, &mut self.places, &mut report);
    }

    /// Makes room for the good rows and turns their sizes into the starts of their records.
    fn lay_out(&mut self, out: &mut Records) {
        let mut end = out.bytes.len();
        for (place, &is_faulty) in self.places.iter_mut().zip(&self.is_faulty) {
            if !is_faulty {
                let start = end;
                end += *place;
                *place = start;
                out.ends.push(end);
            }
        }
        out.bytes.resize(end, 0);
    }

    fn write(&mut self, column: &Column<'_>, out: &mut [u8]) {
        column.positions.fill(self.rows.clone(), &mut self.positions);
        for (position, &is_faulty) in self.positions.iter_mut().zip(&self.is_faulty) {
            if is_faulty {
                *position = NULL;
            }
        }
        column.values.write((column.number, column.wire_type), &self.positions, &mut self.places, out);
    }

    /// Whether each good row was written up to the end of its record, and no further.
    fn has_filled(&self, out: &Records) -> bool {
        let written = self.places.iter().zip(&self.is_faulty).rev().filter(|(_, is_faulty)| !**is_faulty);
        written.zip(out.ends.iter().rev()).all(|((place, _), end)| place == end)
    }
}
