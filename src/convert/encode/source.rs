//! How values are read from Arrow's arrays: by position, and one after the other.

use std::marker::PhantomData;

use arrow_array::types::{
    ArrowPrimitiveType, BinaryType, BinaryViewType, ByteArrayType, ByteViewType, LargeBinaryType,
};
use arrow_array::{
    Array, BooleanArray, FixedSizeBinaryArray, GenericByteArray, GenericByteViewArray, PrimitiveArray,
};
use arrow_buffer::{ArrowNativeType, BooleanBuffer};
use arrow_schema::DataType;

/// A layout of arrays.
pub(in crate::convert) trait Source: 'static {
    type Value<'a>: Copy;
    type Reader<'a>: Reader<Value = Self::Value<'a>>;

    /// A reader of the array, if it has this layout.
    fn reader(array: &dyn Array) -> Option<Self::Reader<'_>>;
}

/// Reads one array.
pub(in crate::convert) trait Reader {
    type Value: Copy;

    /// The value at a position.
    fn at(&self, position: usize) -> Self::Value;

    /// The values from `first` on.
    fn run(&self, first: usize, len: usize) -> impl Iterator<Item = Self::Value>;

    /// How long a value is in the mean, roughly; 0 if all of them are short.
    fn mean_bytes(&self) -> usize {
        0
    }
}

/// Numbers of one width.
pub(in crate::convert) struct Numbers<T>(PhantomData<T>);

impl<T: ArrowPrimitiveType> Source for Numbers<T> {
    type Value<'a> = T::Native;
    type Reader<'a> = &'a [T::Native];

    fn reader(array: &dyn Array) -> Option<&[T::Native]> {
        Some(array.as_any().downcast_ref::<PrimitiveArray<T>>()?.values())
    }
}

impl<N: Copy> Reader for &[N] {
    type Value = N;

    #[inline]
    fn at(&self, position: usize) -> N {
        self[position]
    }

    #[inline]
    fn run(&self, first: usize, len: usize) -> impl Iterator<Item = N> {
        self[first..first + len].iter().copied()
    }
}

/// Booleans, one bit each.
pub(in crate::convert) struct Bits;

impl Source for Bits {
    type Value<'a> = bool;
    type Reader<'a> = &'a BooleanBuffer;

    fn reader(array: &dyn Array) -> Option<&BooleanBuffer> {
        Some(array.as_any().downcast_ref::<BooleanArray>()?.values())
    }
}

impl Reader for &BooleanBuffer {
    type Value = bool;

    #[inline]
    fn at(&self, position: usize) -> bool {
        self.value(position)
    }

    #[inline]
    fn run(&self, first: usize, len: usize) -> impl Iterator<Item = bool> {
        (first..first + len).map(|position| self.value(position))
    }
}

/// Texts or bytes between offsets.
pub(in crate::convert) struct Strings<T>(PhantomData<T>);

/// The bytes between offsets.
pub(in crate::convert) struct StringsReader<'a, O> {
    offsets: &'a [O],
    data: &'a [u8],
}

impl<T: ByteArrayType> Source for Strings<T> {
    type Value<'a> = &'a [u8];
    type Reader<'a> = StringsReader<'a, T::Offset>;

    fn reader(array: &dyn Array) -> Option<StringsReader<'_, T::Offset>> {
        let array = array.as_any().downcast_ref::<GenericByteArray<T>>()?;
        Some(StringsReader { offsets: array.value_offsets(), data: array.value_data() })
    }
}

impl<'a, O: ArrowNativeType> Reader for StringsReader<'a, O> {
    type Value = &'a [u8];

    #[inline]
    fn at(&self, position: usize) -> &'a [u8] {
        &self.data[self.offsets[position].as_usize()..self.offsets[position + 1].as_usize()]
    }

    #[inline]
    fn run(&self, first: usize, len: usize) -> impl Iterator<Item = &'a [u8]> {
        let offsets = &self.offsets[first..=first + len];
        offsets.iter().zip(&offsets[1..]).map(|(start, end)| &self.data[start.as_usize()..end.as_usize()])
    }

    fn mean_bytes(&self) -> usize {
        let [first, .., last] = self.offsets else { return 0 };
        (last.as_usize() - first.as_usize()) / (self.offsets.len() - 1)
    }
}

/// Texts or bytes behind views.
pub(in crate::convert) struct Views<T>(PhantomData<T>);

impl<T: ByteViewType> Source for Views<T> {
    type Value<'a> = &'a [u8];
    type Reader<'a> = &'a GenericByteViewArray<T>;

    fn reader(array: &dyn Array) -> Option<&GenericByteViewArray<T>> {
        array.as_any().downcast_ref()
    }
}

impl<'a, T: ByteViewType> Reader for &'a GenericByteViewArray<T> {
    type Value = &'a [u8];

    #[inline]
    fn at(&self, position: usize) -> &'a [u8] {
        let array: &'a GenericByteViewArray<T> = self;
        array.value(position).as_ref()
    }

    #[inline]
    fn run(&self, first: usize, len: usize) -> impl Iterator<Item = &'a [u8]> {
        let array: &'a GenericByteViewArray<T> = self;
        (first..first + len).map(|position| array.value(position).as_ref())
    }

    fn mean_bytes(&self) -> usize {
        // A slice has the buffers of the whole; that it is long by mistake costs nothing but time.
        self.data_buffers().iter().map(|buffer| buffer.len()).sum::<usize>() / self.len().max(1)
    }
}

/// Bytes of one length.
pub(in crate::convert) struct FixedBytes;

impl Source for FixedBytes {
    type Value<'a> = &'a [u8];
    type Reader<'a> = &'a FixedSizeBinaryArray;

    fn reader(array: &dyn Array) -> Option<&FixedSizeBinaryArray> {
        array.as_any().downcast_ref()
    }
}

impl<'a> Reader for &'a FixedSizeBinaryArray {
    type Value = &'a [u8];

    #[inline]
    fn at(&self, position: usize) -> &'a [u8] {
        let array: &'a FixedSizeBinaryArray = self;
        array.value(position)
    }

    #[inline]
    fn run(&self, first: usize, len: usize) -> impl Iterator<Item = &'a [u8]> {
        let array: &'a FixedSizeBinaryArray = self;
        (first..first + len).map(|position| array.value(position))
    }

    fn mean_bytes(&self) -> usize {
        self.value_length().unsigned_abs() as usize
    }
}

/// Bytes in any of the layouts that hold bytes of any length.
pub(super) enum AnyBytes<'a> {
    Strings(StringsReader<'a, i32>),
    LargeStrings(StringsReader<'a, i64>),
    Views(&'a GenericByteViewArray<BinaryViewType>),
}

impl<'a> AnyBytes<'a> {
    /// A reader of the array, if it has one of the layouts.
    pub(super) fn reader(array: &'a dyn Array) -> Option<AnyBytes<'a>> {
        match array.data_type() {
            DataType::Binary => Strings::<BinaryType>::reader(array).map(AnyBytes::Strings),
            DataType::LargeBinary => Strings::<LargeBinaryType>::reader(array).map(AnyBytes::LargeStrings),
            DataType::BinaryView => Views::<BinaryViewType>::reader(array).map(AnyBytes::Views),
            _ => None,
        }
    }

    /// The bytes at a position.
    pub(super) fn at(&self, position: usize) -> &'a [u8] {
        match self {
            AnyBytes::Strings(reader) => reader.at(position),
            AnyBytes::LargeStrings(reader) => reader.at(position),
            AnyBytes::Views(reader) => reader.at(position),
        }
    }
}
