//! Integers, floats and booleans.

use std::fmt::Display;

use arrow_buffer::i256;
use half::f16;

use super::Write;
use crate::convert::encode::wire::{put_varint, varint_len};
use crate::convert::error::RowErrorReason;

/// Integers that may fit into 64 bits.
pub(in crate::convert) trait ToLong: Copy + Display {
    /// Whether all of them do.
    const FIT_ALL: bool;

    fn to_long(self) -> Option<i64>;
}

macro_rules! to_long {
    ($($integer:ty: $fit_all:literal),*) => { $(
        impl ToLong for $integer {
            const FIT_ALL: bool = $fit_all;

            #[inline]
            fn to_long(self) -> Option<i64> {
                i64::try_from(self).ok()
            }
        }
    )* };
}

to_long!(i8: true, i16: true, i32: true, i64: true, i128: false, u8: true, u16: true, u32: true, u64: false);

impl ToLong for i256 {
    const FIT_ALL: bool = false;

    fn to_long(self) -> Option<i64> {
        self.to_i128()?.to_long()
    }
}

/// Integers of a range, as varints: two's complement of 64 bits, so a negative `int32` takes ten bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Whole<const MIN: i64, const MAX: i64>;

impl<const MIN: i64, const MAX: i64, N: ToLong> Write<N> for Whole<MIN, MAX> {
    const TAKES_ALL: bool = N::FIT_ALL && MIN == i64::MIN && MAX == i64::MAX;

    #[inline]
    fn size(&self, value: N) -> Option<usize> {
        let value = value.to_long().filter(|value| (MIN..=MAX).contains(value))?;
        Some(varint_len(value.cast_unsigned()))
    }

    #[inline]
    fn put(&self, value: N, out: &mut [u8], at: usize) -> usize {
        let value = value.to_long();
        debug_assert!(value.is_some(), "a value without a size is written");
        put_varint(value.unwrap_or_default().cast_unsigned(), out, at)
    }

    fn reason(&self, _: N) -> RowErrorReason {
        RowErrorReason::OutOfRange
    }

    fn text(&self, value: N) -> String {
        value.to_string()
    }
}

/// Booleans, also those that Arrow keeps in bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Flag;

impl Flag {
    #[inline]
    fn put(value: bool, out: &mut [u8], at: usize) -> usize {
        out[at] = u8::from(value);
        at + 1
    }
}

/// A writer that can write every value.
macro_rules! write_every {
    ($writer:ty, $value:ty, $bytes:expr, $put:expr) => {
        impl Write<$value> for $writer {
            const TAKES_ALL: bool = true;

            #[inline]
            fn size(&self, _: $value) -> Option<usize> {
                Some($bytes)
            }

            #[inline]
            fn put(&self, value: $value, out: &mut [u8], at: usize) -> usize {
                $put(value, out, at)
            }

            fn reason(&self, _: $value) -> RowErrorReason {
                RowErrorReason::OutOfRange
            }

            fn text(&self, value: $value) -> String {
                value.to_string()
            }
        }
    };
}

write_every!(Flag, bool, 1, Flag::put);
write_every!(Flag, i8, 1, |value, out, at| Flag::put(value != 0, out, at));

/// Floats of 32 bits; NaN and -0.0 keep their bits.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Single;

impl Single {
    #[inline]
    fn put(value: f32, out: &mut [u8], at: usize) -> usize {
        out[at..at + 4].copy_from_slice(&value.to_le_bytes());
        at + 4
    }
}

write_every!(Single, f32, 4, Single::put);
write_every!(Single, f16, 4, |value: f16, out, at| Single::put(value.to_f32(), out, at));

/// Floats of 64 bits; NaN and -0.0 keep their bits.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Double;

impl Double {
    #[inline]
    fn put(value: f64, out: &mut [u8], at: usize) -> usize {
        out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        at + 8
    }
}

write_every!(Double, f64, 8, Double::put);
write_every!(Double, f32, 8, |value, out, at| Double::put(f64::from(value), out, at));
write_every!(Double, f16, 8, |value: f16, out, at| Double::put(value.to_f64(), out, at));

/// Floats of 64 bits that may be ones of 32 bits.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct ExactSingle;

impl Write<f64> for ExactSingle {
    #[inline]
    fn size(&self, value: f64) -> Option<usize> {
        // The bits, so that -0.0 counts. One NaN is as good as another: Delta does not tell them apart.
        let is_exact = f64::from(value as f32).to_bits() == value.to_bits();
        (is_exact || value.is_nan()).then_some(4)
    }

    #[inline]
    fn put(&self, value: f64, out: &mut [u8], at: usize) -> usize {
        Single::put(value as f32, out, at)
    }

    fn reason(&self, _: f64) -> RowErrorReason {
        RowErrorReason::Inexact
    }

    fn text(&self, value: f64) -> String {
        value.to_string()
    }
}

/// Whether an integer has at most this many digits in base 2, not counting the zeros at its end.
fn fits_in_bits(value: i128, bits: u32) -> bool {
    let magnitude = value.unsigned_abs();
    magnitude == 0 || u128::BITS - magnitude.leading_zeros() - magnitude.trailing_zeros() <= bits
}

/// Integers as floats of 32 bits, if the float is the integer.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct WholeSingle;

/// Integers as floats of 64 bits, if the float is the integer.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct WholeDouble;

macro_rules! write_whole {
    ($writer:ty, $float:ty, $put:path) => {
        impl<N: Copy + Display + Into<i128>> Write<N> for $writer {
            #[inline]
            fn size(&self, value: N) -> Option<usize> {
                fits_in_bits(value.into(), <$float>::MANTISSA_DIGITS).then_some(size_of::<$float>())
            }

            #[inline]
            fn put(&self, value: N, out: &mut [u8], at: usize) -> usize {
                $put(value.into() as $float, out, at)
            }

            fn reason(&self, _: N) -> RowErrorReason {
                RowErrorReason::Inexact
            }

            fn text(&self, value: N) -> String {
                value.to_string()
            }
        }
    };
}

write_whole!(WholeSingle, f32, Single::put);
write_whole!(WholeDouble, f64, Double::put);

#[cfg(test)]
mod tests {
    use super::*;

    /// What a writer makes of a value, if it takes it.
    fn written<V: Copy>(writer: impl Write<V>, value: V) -> Option<Vec<u8>> {
        let size = writer.size(value)?;
        let mut out = [0; 32];
        assert_eq!(writer.put(value, &mut out, 0), size);
        Some(out[..size].to_vec())
    }

    #[test]
    fn integers_are_written_up_to_the_ends_of_their_range() {
        let byte = Whole::<{ i8::MIN as i64 }, { i8::MAX as i64 }>;
        assert_eq!(written(byte, 127_u64), Some(vec![127]));
        assert_eq!(written(byte, 128_i16), None);
        assert_eq!(written(byte, -129_i128), None);
        let minus_one = [vec![0xff; 9], vec![1]].concat();
        assert_eq!(written(byte, -1_i8), Some(minus_one.clone()));
        let long = Whole::<{ i64::MIN }, { i64::MAX }>;
        assert_eq!(written(long, u64::MAX), None);
        assert_eq!(written(long, i256::from_i128(-1)), Some(minus_one));
        assert_eq!(written(long, i256::MAX), None);
    }

    #[test]
    fn floats_take_what_they_can_hold_exactly() {
        let single = |value: i64| written(WholeSingle, value);
        assert_eq!(single(1 << 24), Some(((1 << 24) as f32).to_le_bytes().to_vec()));
        assert_eq!(single((1 << 24) + 1), None);
        assert_eq!(single(i64::MIN), Some((i64::MIN as f32).to_le_bytes().to_vec()));
        // Rounded up to 2⁶³, which a cast back to 64 bits would not show.
        assert_eq!(single(i64::MAX), None);
        assert_eq!(written(WholeDouble, u64::MAX), None);
        assert_eq!(written(WholeDouble, (1_i64 << 53) + 1), None);
        assert_eq!(written(WholeDouble, -3_i8), Some((-3.0_f64).to_le_bytes().to_vec()));
        assert_eq!(written(ExactSingle, 0.1), None);
        assert_eq!(written(ExactSingle, f64::MIN_POSITIVE), None);
        assert_eq!(written(ExactSingle, 1e300), None);
        assert_eq!(written(ExactSingle, -0.0), Some((-0.0_f32).to_le_bytes().to_vec()));
        assert_eq!(written(ExactSingle, f64::INFINITY), Some(f32::INFINITY.to_le_bytes().to_vec()));
        assert!(written(ExactSingle, f64::NAN).is_some());
    }
}
