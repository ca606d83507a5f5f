//! Lists of all kinds and maps in one form: offsets into values that have nothing else in them.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, UInt64Array};
use arrow_buffer::{ArrowNativeType as _, NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef};
use arrow_select::take::take;

/// Lists without anything that nobody sees: null ones have no elements.
pub(super) struct Lists {
    pub(super) offsets: OffsetBuffer<i32>,
    /// The elements of all lists; of maps their entries.
    pub(super) values: ArrayRef,
    pub(super) nulls: Option<NullBuffer>,
}

impl Lists {
    /// The field of the elements, if it is a type of lists.
    pub(super) fn element_field(data_type: &DataType) -> Option<&FieldRef> {
        match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _) => Some(field),
            _ => None,
        }
    }

    pub(super) fn of(array: &ArrayRef) -> Result<Lists, ArrowError> {
        let none = || ArrowError::CastError(format!("{} is no type of lists", array.data_type()));
        match array.data_type() {
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                Lists::new(lists, lists.values(), between(lists.value_offsets()))
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                Lists::new(lists, lists.values(), between(lists.value_offsets()))
            }
            DataType::ListView(_) => {
                let lists = array.as_list_view::<i32>();
                let (offsets, sizes) = (lists.value_offsets(), lists.value_sizes());
                Lists::new(lists, lists.values(), |n| from(offsets[n].as_usize(), sizes[n].as_usize()))
            }
            DataType::LargeListView(_) => {
                let lists = array.as_list_view::<i64>();
                let (offsets, sizes) = (lists.value_offsets(), lists.value_sizes());
                Lists::new(lists, lists.values(), |n| from(offsets[n].as_usize(), sizes[n].as_usize()))
            }
            DataType::FixedSizeList(_, len) => {
                let (lists, len) = (array.as_fixed_size_list(), len.as_usize());
                Lists::new(lists, lists.values(), |n| from(n * len, len))
            }
            DataType::Map(..) => {
                let maps = array.as_map();
                let entries: ArrayRef = Arc::new(maps.entries().clone());
                Lists::new(maps, &entries, between(maps.value_offsets()))
            }
            _ => Err(none()),
        }
    }

    fn new(
        lists: &dyn Array,
        values: &ArrayRef,
        elements: impl Fn(usize) -> Range<usize>,
    ) -> Result<Lists, ArrowError> {
        let nulls = lists.nulls().cloned();
        let ranges: Vec<Range<usize>> =
            (0..lists.len()).map(|n| if lists.is_valid(n) { elements(n) } else { 0..0 }).collect();
        let count: usize = ranges.iter().map(Range::len).sum();
        if i32::try_from(count).is_err() {
            return Err(ArrowError::OffsetOverflowError(count));
        }
        let offsets = OffsetBuffer::from_lengths(ranges.iter().map(Range::len));
        Ok(Lists { offsets, values: picked(values, &ranges, count)?, nulls })
    }
}

fn between<O: arrow_buffer::ArrowNativeType>(offsets: &[O]) -> impl Fn(usize) -> Range<usize> {
    |n| offsets[n].as_usize()..offsets[n + 1].as_usize()
}

fn from(start: usize, len: usize) -> Range<usize> {
    start..start + len
}

/// The values in these ranges, one behind the other.
fn picked(values: &ArrayRef, ranges: &[Range<usize>], count: usize) -> Result<ArrayRef, ArrowError> {
    let mut filled = ranges.iter().filter(|range| !range.is_empty());
    let Some(first) = filled.next() else { return Ok(values.slice(0, 0)) };
    let mut end = first.end;
    let is_run = filled.all(|range| range.start == std::mem::replace(&mut end, range.end));
    if is_run {
        return Ok(values.slice(first.start, count));
    }
    let positions = UInt64Array::from_iter_values(ranges.iter().cloned().flatten().map(|n| n as u64));
    take(values, &positions, None)
}
