//! Where the value of a row stands: in the array itself, or behind a dictionary key.
//!
//! Nulls are decided here and nowhere else. Slices need no care: Arrow's accessors count from the
//! start of the slice.

use std::ops::Range;

use arrow_array::types::ArrowDictionaryKeyType;
use arrow_array::{Array, DictionaryArray, downcast_dictionary_array};
use arrow_buffer::{ArrowNativeType, NullBuffer};

/// The position of a value that is null; no array is that long.
pub(super) const NULL: usize = usize::MAX;

/// Says for each row which value is meant.
pub(super) trait Positions {
    /// Writes the position of the value of each of `rows`, or [`NULL`], to `positions`, which is as long.
    fn fill(&self, rows: Range<usize>, positions: &mut [usize]);
}

/// The positions of a column, and the array that they point into.
pub(super) fn bind(array: &dyn Array) -> (Box<dyn Positions + '_>, &dyn Array) {
    downcast_dictionary_array!(
        array => (Box::new(array) as Box<dyn Positions>, array.values().as_ref()),
        _ => (Box::new(Plain { nulls: array.nulls() }), array),
    )
}

/// Row n has value n.
struct Plain<'a> {
    nulls: Option<&'a NullBuffer>,
}

impl Positions for Plain<'_> {
    fn fill(&self, rows: Range<usize>, positions: &mut [usize]) {
        match self.nulls {
            None => positions.iter_mut().zip(rows).for_each(|(position, row)| *position = row),
            Some(nulls) => {
                for (position, row) in positions.iter_mut().zip(rows) {
                    *position = if nulls.is_valid(row) { row } else { NULL };
                }
            }
        }
    }
}

/// Row n has the value that key n points to; either of them may be null.
impl<K: ArrowDictionaryKeyType> Positions for &DictionaryArray<K> {
    fn fill(&self, rows: Range<usize>, positions: &mut [usize]) {
        let keys = self.keys();
        let nulls = self.values().nulls();
        for (position, row) in positions.iter_mut().zip(rows) {
            // A null key may be any number, so it must not be looked up.
            *position = if keys.is_null(row) {
                NULL
            } else {
                let key = keys.value(row).as_usize();
                if nulls.is_some_and(|nulls| nulls.is_null(key)) { NULL } else { key }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::{Int8Type, UInt64Type};
    use arrow_array::{Int32Array, PrimitiveArray, StringArray};
    use arrow_buffer::ScalarBuffer;

    use super::*;

    fn positions(array: &dyn Array, rows: Range<usize>) -> Vec<usize> {
        let mut positions = vec![0; rows.len()];
        bind(array).0.fill(rows, &mut positions);
        positions
    }

    #[test]
    fn plain_rows_are_their_own_positions_and_slices_count_from_their_start() {
        assert_eq!(positions(&Int32Array::from(vec![5, 6, 7]), 1..3), [1, 2]);
        let array = Int32Array::from(vec![Some(1), None, Some(3), None]);
        assert_eq!(positions(&array, 0..4), [0, NULL, 2, NULL]);
        assert_eq!(positions(&array.slice(1, 3), 0..3), [NULL, 1, NULL]);
    }

    #[test]
    fn a_dictionary_row_is_null_if_its_key_or_its_value_is() {
        let values = Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]));
        // The null key is out of the range of the values.
        let keys = PrimitiveArray::<Int8Type>::new(
            ScalarBuffer::from(vec![2, 1, 99, 0]),
            Some(NullBuffer::from(vec![true, true, false, true])),
        );
        let array = DictionaryArray::new(keys, values.clone());
        assert_eq!(positions(&array, 0..4), [2, NULL, NULL, 0]);
        assert_eq!(positions(&array.slice(2, 2), 0..2), [NULL, 0]);
        let wide = DictionaryArray::<UInt64Type>::new(vec![0, 2].into(), values);
        assert_eq!(positions(&wide, 0..2), [0, 2]);
    }
}
