//! Arrays of generated values, in all the layouts that Arrow allows: slices at every level, something behind every
//! null, lists in any order with gaps between them.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, IntervalDayTime, IntervalMonthDayNano, NullBuffer, OffsetBuffer,
    i256,
};
use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use half::f16;

use crate::cells::{Cell, Cells, Leaf};
use crate::oracle::OnNull;
use crate::shape::{Layout, Part, Record, Shape};
use crate::variants::Sample;

impl Cells<'_> {
    /// The columns of these rows.
    pub(crate) fn columns(&mut self, record: &Record, rows: &[Cell]) -> Vec<ArrayRef> {
        let columns = record.members.iter().enumerate().map(|(n, member)| {
            let cells: Vec<Cell> = rows.iter().map(|row| child(row, n)).collect();
            self.array(&member.shape, member.nullable, &cells)
        });
        columns.collect()
    }

    /// An array of these values.
    pub(crate) fn array(&mut self, shape: &Shape, nullable: bool, cells: &[Cell]) -> ArrayRef {
        let (front, back) = match self.choices.below(3) {
            2 => (self.choices.below(4), self.choices.below(4)),
            _ => (0, 0),
        };
        let mut whole = self.garbage(shape, nullable, front);
        whole.extend_from_slice(cells);
        whole.extend(self.garbage(shape, nullable, back));
        self.whole(shape, nullable, &whole).slice(front, cells.len())
    }

    /// Values that nobody must look at; also ones that would be refused.
    fn garbage(&mut self, shape: &Shape, nullable: bool, len: usize) -> Vec<Cell> {
        let wild = std::mem::replace(&mut self.wild, 2);
        let cells = self.level(shape, nullable, OnNull::Omit, len);
        self.wild = wild;
        cells
    }

    fn whole(&mut self, shape: &Shape, nullable: bool, cells: &[Cell]) -> ArrayRef {
        match shape {
            Shape::Null { .. } => Arc::new(NullArray::new(cells.len())),
            Shape::Scalar { data_type, .. } => {
                let garbage = self.garbage(shape, false, cells.len());
                let leaves: Vec<Leaf> =
                    cells.iter().zip(garbage).map(|(cell, garbage)| leaf(cell, garbage)).collect();
                with_nulls(leaf_array(data_type, &leaves), nulls(cells))
            }
            Shape::Struct(record) => self.struct_array(record, cells),
            Shape::List(layout, element) => self.list_array(*layout, element, cells),
            Shape::Map { key, value } => self.map_array(key, value, cells),
            Shape::Keyed { key, values } => self.keyed_array(key, values, nullable, cells),
            Shape::Runs { end, values } => self.run_array(end, values, nullable, cells),
        }
    }

    fn struct_array(&mut self, record: &Record, cells: &[Cell]) -> ArrayRef {
        let mut children = Vec::with_capacity(record.members.len());
        for (n, member) in record.members.iter().enumerate() {
            let mut of_child = self.garbage(&member.shape, member.nullable, cells.len());
            for (slot, cell) in of_child.iter_mut().zip(cells).filter(|(_, cell)| **cell != Cell::Null) {
                *slot = child(cell, n);
            }
            children.push(self.array(&member.shape, member.nullable, &of_child));
        }
        Arc::new(StructArray::try_new(record.fields(), children, nulls(cells)).unwrap())
    }

    /// The values of some lists one after the other, with others between them, and the range of each list.
    fn ranges<T: Clone>(
        &mut self,
        lists: &[Option<&[T]>],
        mut garbage: impl FnMut(&mut Self, usize) -> Vec<T>,
    ) -> (Vec<T>, Vec<std::ops::Range<usize>>) {
        let mut all = Vec::new();
        let mut ranges = Vec::with_capacity(lists.len());
        for list in lists {
            let start = all.len();
            match list {
                Some(elements) => all.extend_from_slice(elements),
                None => {
                    let some = self.choices.below(3);
                    all.extend(garbage(self, some));
                }
            }
            ranges.push(start..all.len());
        }
        (all, ranges)
    }

    fn list_array(&mut self, layout: Layout, element: &Part, cells: &[Cell]) -> ArrayRef {
        let mut lists: Vec<Option<&[Cell]>> = cells
            .iter()
            .map(|cell| if let Cell::List(elements) = cell { Some(&elements[..]) } else { None })
            .collect();
        let field = Arc::new(element.field("item"));
        let nulls = nulls(cells);
        let garbage = |cells: &mut Self, len| cells.garbage(&element.shape, element.nullable, len);
        if let Layout::FixedSize(len) = layout {
            let all: Vec<Cell> = lists
                .iter()
                .flat_map(|list| list.map_or_else(|| garbage(self, len), <[Cell]>::to_vec))
                .collect();
            let values = self.array(&element.shape, element.nullable, &all);
            return Arc::new(FixedSizeListArray::try_new(field, len as i32, values, nulls).unwrap());
        }
        let is_view = matches!(layout, Layout::ListView | Layout::LargeListView);
        // A view's lists may lie in any order.
        let is_reversed = is_view && self.choices.one_in(2);
        if is_reversed {
            lists.reverse();
        }
        let (all, mut ranges) = self.ranges(&lists, garbage);
        if is_reversed {
            ranges.reverse();
        }
        if is_view {
            self.share(cells, &mut ranges);
        }
        let values = self.array(&element.shape, element.nullable, &all);
        let starts = || ranges.iter().map(|range| range.start);
        let lens = || ranges.iter().map(std::ops::Range::len);
        match layout {
            Layout::List => Arc::new(
                ListArray::try_new(field, OffsetBuffer::from_lengths(lens()), values, nulls).unwrap(),
            ),
            Layout::LargeList => Arc::new(
                LargeListArray::try_new(field, OffsetBuffer::from_lengths(lens()), values, nulls).unwrap(),
            ),
            Layout::ListView => {
                let (starts, lens) =
                    (starts().map(|n| n as i32).collect(), lens().map(|n| n as i32).collect());
                Arc::new(ListViewArray::try_new(field, starts, lens, values, nulls).unwrap())
            }
            _ => {
                let (starts, lens) =
                    (starts().map(|n| n as i64).collect(), lens().map(|n| n as i64).collect());
                Arc::new(LargeListViewArray::try_new(field, starts, lens, values, nulls).unwrap())
            }
        }
    }

    /// Lists that are the same may lie in the same place.
    fn share(&mut self, cells: &[Cell], ranges: &mut [std::ops::Range<usize>]) {
        for n in 1..cells.len() {
            if let Some(same) = cells[..n].iter().position(|earlier| *earlier == cells[n])
                && cells[n] != Cell::Null
                && self.choices.one_in(2)
            {
                ranges[n] = ranges[same].clone();
            }
        }
    }

    fn map_array(&mut self, key: &Part, value: &Part, cells: &[Cell]) -> ArrayRef {
        let maps: Vec<Option<&[(Cell, Cell)]>> = cells
            .iter()
            .map(|cell| if let Cell::Map(entries) = cell { Some(&entries[..]) } else { None })
            .collect();
        let (entries, ranges) = self.ranges(&maps, |cells, len| {
            let keys = cells.garbage(&key.shape, key.nullable, len);
            keys.into_iter().zip(cells.garbage(&value.shape, value.nullable, len)).collect()
        });
        let (keys, values): (Vec<Cell>, Vec<Cell>) = entries.into_iter().unzip();
        let fields = Fields::from(vec![key.field("keys"), value.field("values")]);
        let children = vec![
            self.array(&key.shape, key.nullable, &keys),
            self.array(&value.shape, value.nullable, &values),
        ];
        let entries = StructArray::try_new(fields.clone(), children, None).unwrap();
        let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
        let offsets = OffsetBuffer::from_lengths(ranges.iter().map(std::ops::Range::len));
        Arc::new(MapArray::try_new(field, offsets, entries, nulls(cells), false).unwrap())
    }

    fn keyed_array(&mut self, key: &DataType, values: &Shape, nullable: bool, cells: &[Cell]) -> ArrayRef {
        // Some that no key leads to, and now and then one twice.
        let unused = self.choices.below(3);
        let mut pool = self.garbage(values, nullable, unused);
        let mut keys = Vec::with_capacity(cells.len());
        for cell in cells {
            // Null is a null key, or a key to a null.
            if *cell == Cell::Null && (pool.is_empty() || self.choices.one_in(2)) {
                keys.push(None);
                continue;
            }
            let known = pool.iter().position(|known| known == cell);
            let known = known.filter(|_| pool.len() > 100 || !self.choices.one_in(8));
            keys.push(Some(known.unwrap_or(pool.len())));
            if known.is_none() {
                pool.push(cell.clone());
            }
        }
        let values = self.array(values, nullable, &pool);
        let is_wrong = self.choices.one_in(2);
        match key {
            DataType::Int8 => keyed::<Int8Type>(&keys, is_wrong, values),
            DataType::Int16 => keyed::<Int16Type>(&keys, is_wrong, values),
            DataType::Int32 => keyed::<Int32Type>(&keys, is_wrong, values),
            DataType::Int64 => keyed::<Int64Type>(&keys, is_wrong, values),
            DataType::UInt8 => keyed::<UInt8Type>(&keys, is_wrong, values),
            DataType::UInt16 => keyed::<UInt16Type>(&keys, is_wrong, values),
            DataType::UInt32 => keyed::<UInt32Type>(&keys, is_wrong, values),
            _ => keyed::<UInt64Type>(&keys, is_wrong, values),
        }
    }

    fn run_array(&mut self, end: &DataType, values: &Shape, nullable: bool, cells: &[Cell]) -> ArrayRef {
        let mut ends: Vec<usize> = Vec::new();
        let mut of_runs: Vec<Cell> = Vec::new();
        for (n, cell) in cells.iter().enumerate() {
            match ends.last_mut() {
                Some(end) if of_runs.last() == Some(cell) && !self.choices.one_in(8) => *end = n + 1,
                _ => {
                    ends.push(n + 1);
                    of_runs.push(cell.clone());
                }
            }
        }
        let values = self.array(values, nullable, &of_runs);
        match end {
            DataType::Int16 => runs::<Int16Type>(&ends, &values),
            DataType::Int32 => runs::<Int32Type>(&ends, &values),
            _ => runs::<Int64Type>(&ends, &values),
        }
    }
}

fn child(cell: &Cell, n: usize) -> Cell {
    match cell {
        Cell::Struct(fields) => fields[n].clone(),
        other => panic!("{other:?} is no struct"),
    }
}

fn leaf(cell: &Cell, garbage: Cell) -> Leaf {
    match (cell, garbage) {
        (Cell::Leaf(leaf), _) => leaf.clone(),
        (Cell::Null, Cell::Leaf(garbage)) => garbage,
        (cell, _) => panic!("{cell:?} has parts"),
    }
}

fn nulls(cells: &[Cell]) -> Option<NullBuffer> {
    let validity: Vec<bool> = cells.iter().map(|cell| *cell != Cell::Null).collect();
    Some(NullBuffer::from(validity)).filter(|nulls| nulls.null_count() > 0)
}

/// The array, some of whose values are nothing.
fn with_nulls(array: ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    make_array(array.to_data().into_builder().nulls(nulls).build().unwrap())
}

fn keyed<K: ArrowDictionaryKeyType>(keys: &[Option<usize>], is_wrong: bool, values: ArrayRef) -> ArrayRef {
    // What stands for a null key may lead nowhere.
    let absent = if is_wrong { 99 } else { 0 };
    let validity: Vec<bool> = keys.iter().map(Option::is_some).collect();
    let native = keys.iter().map(|key| K::Native::from_usize(key.unwrap_or(absent)).unwrap());
    let nulls = Some(NullBuffer::from(validity)).filter(|nulls| nulls.null_count() > 0);
    let keys = PrimitiveArray::<K>::new(native.collect(), nulls);
    Arc::new(DictionaryArray::try_new(keys, values).unwrap())
}

fn runs<R: RunEndIndexType>(ends: &[usize], values: &ArrayRef) -> ArrayRef {
    let ends = ends.iter().map(|end| R::Native::from_usize(*end).unwrap());
    let ends = PrimitiveArray::<R>::new(ends.collect(), None);
    Arc::new(RunArray::<R>::try_new(&ends, values.as_ref()).unwrap())
}

/// The array of values none of which is null.
fn leaf_array(data_type: &DataType, leaves: &[Leaf]) -> ArrayRef {
    macro_rules! integers {
        ($type:ty) => {
            primitive::<$type>(data_type, leaves, |leaf| int(leaf).to_i128().unwrap() as _)
        };
    }
    use DataType as A;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    match data_type {
        A::Boolean => {
            let bits = leaves.iter().map(|leaf| matches!(leaf, Leaf::Bool(true)));
            Arc::new(BooleanArray::new(BooleanBuffer::from_iter(bits), None))
        }
        A::Int8 => integers!(Int8Type),
        A::Int16 => integers!(Int16Type),
        A::Int32 => integers!(Int32Type),
        A::Int64 => integers!(Int64Type),
        A::UInt8 => integers!(UInt8Type),
        A::UInt16 => integers!(UInt16Type),
        A::UInt32 => integers!(UInt32Type),
        A::UInt64 => integers!(UInt64Type),
        A::Date32 => integers!(Date32Type),
        A::Date64 => integers!(Date64Type),
        A::Time32(Second) => integers!(Time32SecondType),
        A::Time32(_) => integers!(Time32MillisecondType),
        A::Time64(Microsecond) => integers!(Time64MicrosecondType),
        A::Time64(_) => integers!(Time64NanosecondType),
        A::Timestamp(Second, _) => integers!(TimestampSecondType),
        A::Timestamp(Millisecond, _) => integers!(TimestampMillisecondType),
        A::Timestamp(Microsecond, _) => integers!(TimestampMicrosecondType),
        A::Timestamp(Nanosecond, _) => integers!(TimestampNanosecondType),
        A::Duration(Second) => integers!(DurationSecondType),
        A::Duration(Millisecond) => integers!(DurationMillisecondType),
        A::Duration(Microsecond) => integers!(DurationMicrosecondType),
        A::Duration(Nanosecond) => integers!(DurationNanosecondType),
        A::Interval(IntervalUnit::YearMonth) => integers!(IntervalYearMonthType),
        A::Decimal32(..) => integers!(Decimal32Type),
        A::Decimal64(..) => integers!(Decimal64Type),
        A::Decimal128(..) => integers!(Decimal128Type),
        A::Decimal256(..) => primitive::<Decimal256Type>(data_type, leaves, int),
        A::Interval(IntervalUnit::DayTime) => {
            primitive::<IntervalDayTimeType>(data_type, leaves, |leaf| match leaf {
                Leaf::DayTime { days, milliseconds } => IntervalDayTime::new(*days, *milliseconds),
                other => panic!("{other:?} is no interval"),
            })
        }
        A::Interval(IntervalUnit::MonthDayNano) => {
            primitive::<IntervalMonthDayNanoType>(data_type, leaves, |leaf| match leaf {
                Leaf::MonthDayNano { months, days, nanoseconds } => {
                    IntervalMonthDayNano::new(*months, *days, *nanoseconds)
                }
                other => panic!("{other:?} is no interval"),
            })
        }
        A::Float16 => primitive::<Float16Type>(data_type, leaves, |leaf| match leaf {
            Leaf::Half(bits) => f16::from_bits(*bits),
            other => panic!("{other:?} is no float"),
        }),
        A::Float32 => primitive::<Float32Type>(data_type, leaves, |leaf| match leaf {
            Leaf::Single(bits) => f32::from_bits(*bits),
            other => panic!("{other:?} is no float"),
        }),
        A::Float64 => primitive::<Float64Type>(data_type, leaves, |leaf| match leaf {
            Leaf::Double(bits) => f64::from_bits(*bits),
            other => panic!("{other:?} is no float"),
        }),
        A::Utf8 => Arc::new(StringArray::from_iter_values(leaves.iter().map(text))),
        A::LargeUtf8 => Arc::new(LargeStringArray::from_iter_values(leaves.iter().map(text))),
        A::Utf8View => Arc::new(StringViewArray::from_iter_values(leaves.iter().map(text))),
        A::Binary => Arc::new(BinaryArray::from_iter_values(leaves.iter().map(bytes))),
        A::LargeBinary => Arc::new(LargeBinaryArray::from_iter_values(leaves.iter().map(bytes))),
        A::BinaryView => Arc::new(BinaryViewArray::from_iter_values(leaves.iter().map(bytes))),
        A::Struct(fields) => {
            let part = |n: usize, bytes: fn(&Leaf) -> Leaf| {
                leaf_array(fields[n].data_type(), &leaves.iter().map(bytes).collect::<Vec<_>>())
            };
            let metadata = part(0, |leaf| Leaf::Bytes(variant(leaf).metadata.clone()));
            let value = part(1, |leaf| Leaf::Bytes(variant(leaf).value.clone()));
            Arc::new(StructArray::new(fields.clone(), vec![metadata, value], None))
        }
        A::FixedSizeBinary(len) => {
            let all: Vec<u8> = leaves.iter().flat_map(bytes).copied().collect();
            Arc::new(FixedSizeBinaryArray::new(*len, Buffer::from(all), None))
        }
        other => panic!("{other} is no scalar type"),
    }
}

fn primitive<T: ArrowPrimitiveType>(
    data_type: &DataType,
    leaves: &[Leaf],
    native: impl Fn(&Leaf) -> T::Native,
) -> ArrayRef {
    let values = leaves.iter().map(native).collect();
    Arc::new(PrimitiveArray::<T>::new(values, None).with_data_type(data_type.clone()))
}

fn int(leaf: &Leaf) -> i256 {
    match leaf {
        Leaf::Int(number) => *number,
        other => panic!("{other:?} is no number"),
    }
}

fn bytes(leaf: &Leaf) -> &[u8] {
    match leaf {
        Leaf::Bytes(bytes) => bytes,
        other => panic!("{other:?} is no bytes"),
    }
}

fn variant(leaf: &Leaf) -> &Sample {
    match leaf {
        Leaf::Variant(sample) => sample,
        other => panic!("{other:?} is no variant"),
    }
}

fn text(leaf: &Leaf) -> &str {
    std::str::from_utf8(bytes(leaf)).unwrap()
}
