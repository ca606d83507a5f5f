//! Decimals: plain text with exactly the digits behind the point that the column has.

use std::fmt::Display;

use arrow_buffer::i256;

use super::Write;
use super::text::shown;
use crate::convert::encode::wire::{delimited_len, put_bytes, put_delimited, put_len};
use crate::convert::error::RowErrorReason;

/// The most digits that a DECIMAL of Delta has.
const DIGITS_MAX: u8 = 38;

/// Numbers with a scale, as text for a DECIMAL column.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Decimal {
    from_scale: i8,
    to_scale: u8,
    rescale: Rescale,
    /// The first unscaled number with a digit too many.
    limit: u128,
}

/// How an unscaled number comes from one scale to another: by a power of ten, none if that is beyond 128 bits.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) enum Rescale {
    Multiply {
        factor: Option<i128>,
    },
    /// If nothing is left over.
    Divide {
        divisor: Option<i128>,
        exponent: u32,
    },
}

impl Rescale {
    fn new(from: i8, to: i8) -> Rescale {
        let exponent = u32::from(from.abs_diff(to));
        let power = 10_i128.checked_pow(exponent);
        if to >= from {
            Rescale::Multiply { factor: power }
        } else {
            Rescale::Divide { divisor: power, exponent }
        }
    }
}

/// Integers that a decimal can be kept in.
pub(in crate::convert) trait Unscaled: Copy + Display {
    /// The number that is meant at another scale.
    fn rescaled(self, rescale: Rescale) -> Result<i128, RowErrorReason>;

    /// Its decimal digits, with a sign.
    fn digits(self) -> String {
        self.to_string()
    }
}

#[inline]
fn rescaled(value: i128, rescale: Rescale) -> Result<i128, RowErrorReason> {
    match rescale {
        Rescale::Multiply { factor: Some(1) } => Ok(value),
        _ if value == 0 => Ok(0),
        Rescale::Multiply { factor } => {
            factor.and_then(|factor| value.checked_mul(factor)).ok_or(RowErrorReason::OutOfRange)
        }
        Rescale::Divide { divisor: Some(divisor), .. } if value % divisor == 0 => Ok(value / divisor),
        Rescale::Divide { .. } => Err(RowErrorReason::Inexact),
    }
}

macro_rules! unscaled {
    ($($integer:ty),*) => { $(
        impl Unscaled for $integer {
            #[inline]
            fn rescaled(self, rescale: Rescale) -> Result<i128, RowErrorReason> {
                rescaled(i128::from(self), rescale)
            }
        }
    )* };
}

unscaled!(i8, i16, i32, i64, i128, u8, u16, u32, u64);

impl Unscaled for i256 {
    fn rescaled(self, rescale: Rescale) -> Result<i128, RowErrorReason> {
        if let Some(value) = self.to_i128() {
            return rescaled(value, rescale);
        }
        // Beyond 128 bits: only less digits behind the point can make it fit.
        let Rescale::Divide { exponent, .. } = rescale else { return Err(RowErrorReason::OutOfRange) };
        let divisor = i256::from_i128(10).checked_pow(exponent).ok_or(RowErrorReason::Inexact)?;
        if self.checked_rem(divisor) != Some(i256::ZERO) {
            return Err(RowErrorReason::Inexact);
        }
        self.checked_div(divisor).and_then(i256::to_i128).ok_or(RowErrorReason::OutOfRange)
    }
}

impl Decimal {
    /// From unscaled numbers of a scale to DECIMAL(`precision`, `to_scale`), if there is such a type.
    pub(in crate::convert) fn new(from_scale: i8, precision: u8, to_scale: u8) -> Option<Decimal> {
        if precision > DIGITS_MAX || to_scale > precision {
            return None;
        }
        let rescale = Rescale::new(from_scale, i8::try_from(to_scale).ok()?);
        Some(Decimal { from_scale, to_scale, rescale, limit: 10_u128.pow(u32::from(precision)) })
    }

    fn unscaled(&self, value: impl Unscaled) -> Result<i128, RowErrorReason> {
        let value = value.rescaled(self.rescale)?;
        if value.unsigned_abs() < self.limit { Ok(value) } else { Err(RowErrorReason::OutOfRange) }
    }

    /// The length of the text of an unscaled number of the column.
    fn text_len(&self, unscaled: i128) -> usize {
        let scale = usize::from(self.to_scale);
        let digits = digit_count(unscaled.unsigned_abs()).max(scale + 1);
        usize::from(unscaled < 0) + digits + usize::from(scale > 0)
    }
}

fn digit_count(value: u128) -> usize {
    // Division by a constant is far quicker in 64 bits.
    let logarithm = match u64::try_from(value) {
        Ok(value) => value.checked_ilog10(),
        Err(_) => value.checked_ilog10(),
    };
    logarithm.unwrap_or(0) as usize + 1
}

/// Fills a place with the last digits of a number and returns what is left of the number.
fn put_digits(mut value: u128, place: &mut [u8]) -> u128 {
    let mut rest = place;
    // Nineteen digits at a time fit into 64 bits.
    while let Some(start) = rest.len().checked_sub(19).filter(|_| value > u128::from(u64::MAX)) {
        let (left, low) = rest.split_at_mut(start);
        put_short_digits((value % 10_u128.pow(19)) as u64, low);
        value /= 10_u128.pow(19);
        rest = left;
    }
    match u64::try_from(value) {
        Ok(short) => u128::from(put_short_digits(short, rest)),
        Err(_) => {
            for digit in rest.iter_mut().rev() {
                *digit = b'0' + (value % 10) as u8;
                value /= 10;
            }
            value
        }
    }
}

fn put_short_digits(mut value: u64, place: &mut [u8]) -> u64 {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    value
}

impl<N: Unscaled> Write<N> for Decimal {
    #[inline]
    fn size(&self, value: N) -> Option<usize> {
        self.unscaled(value).ok().map(|unscaled| delimited_len(self.text_len(unscaled)))
    }

    fn put(&self, value: N, out: &mut [u8], at: usize) -> usize {
        let unscaled = self.unscaled(value);
        debug_assert!(unscaled.is_ok(), "a value without a size is written");
        let unscaled = unscaled.unwrap_or_default();
        let len = self.text_len(unscaled);
        let start = put_len(len, out, at);
        let mut place = &mut out[start..start + len];
        if unscaled < 0 {
            place[0] = b'-';
            place = &mut place[1..];
        }
        let mut magnitude = unscaled.unsigned_abs();
        if self.to_scale > 0 {
            let (whole, fraction) = place.split_at_mut(place.len() - usize::from(self.to_scale));
            magnitude = put_digits(magnitude, fraction);
            let (point, whole) = whole.split_last_mut().unwrap_or((&mut fraction[0], &mut []));
            *point = b'.';
            place = whole;
        }
        put_digits(magnitude, place);
        start + len
    }

    fn reason(&self, value: N) -> RowErrorReason {
        self.unscaled(value).err().unwrap_or(RowErrorReason::OutOfRange)
    }

    fn text(&self, value: N) -> String {
        plain_text(&value.digits(), self.from_scale)
    }
}

/// The plain notation of an unscaled number.
fn plain_text(digits: &str, scale: i8) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let scale_digits = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        let zeros = if digits == "0" { 0 } else { scale_digits };
        return format!("{sign}{digits}{:0<zeros$}", "");
    }
    let padded = format!("{digits:0>width$}", width = scale_digits + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale_digits);
    format!("{sign}{whole}.{fraction}")
}

/// Decimals of any length as text for a STRING column, in the plain notation with all digits of their scale.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct DecimalAsText {
    pub(in crate::convert) scale: i8,
}

impl<N: Unscaled> Write<N> for DecimalAsText {
    fn size(&self, value: N) -> Option<usize> {
        Some(delimited_len(plain_text(&value.digits(), self.scale).len()))
    }

    fn put(&self, value: N, out: &mut [u8], at: usize) -> usize {
        put_delimited(plain_text(&value.digits(), self.scale).as_bytes(), out, at)
    }

    fn reason(&self, _: N) -> RowErrorReason {
        RowErrorReason::OutOfRange
    }

    fn text(&self, value: N) -> String {
        plain_text(&value.digits(), self.scale)
    }
}

/// Text that must be a number of a DECIMAL column; it is sent as it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct DecimalText {
    pub(in crate::convert) precision: u8,
    pub(in crate::convert) scale: u8,
}

impl DecimalText {
    /// Plain notation: `-?digits[.digits]`.
    fn check(self, text: &[u8]) -> Result<(), RowErrorReason> {
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
            Some(point) => (&digits[..point], Some(&digits[point + 1..])),
            None => (digits, None),
        };
        let are_digits = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if !are_digits(whole) || !fraction.is_none_or(are_digits) {
            return Err(RowErrorReason::InvalidDecimal);
        }
        let fraction = fraction.unwrap_or_default();
        let fraction_digits = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        let whole_digits =
            whole.iter().position(|digit| *digit != b'0').map_or(0, |first| whole.len() - first);
        if whole_digits > usize::from(self.precision.saturating_sub(self.scale)) {
            return Err(RowErrorReason::OutOfRange);
        }
        if fraction_digits > usize::from(self.scale) { Err(RowErrorReason::Inexact) } else { Ok(()) }
    }
}

impl Write<&[u8]> for DecimalText {
    fn size(&self, text: &[u8]) -> Option<usize> {
        self.check(text).ok().map(|()| delimited_len(text.len()))
    }

    fn put(&self, text: &[u8], out: &mut [u8], at: usize) -> usize {
        let at = put_len(text.len(), out, at);
        put_bytes(text, out, at)
    }

    fn reason(&self, text: &[u8]) -> RowErrorReason {
        self.check(text).err().unwrap_or(RowErrorReason::InvalidDecimal)
    }

    fn text(&self, text: &[u8]) -> String {
        shown(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written<V: Copy>(writer: impl Write<V>, value: V) -> Result<String, RowErrorReason> {
        let Some(size) = writer.size(value) else { return Err(writer.reason(value)) };
        let mut out = [0xee; 400];
        assert_eq!(writer.put(value, &mut out, 5), 5 + size);
        let text = &out[5 + size - (size - if size > 128 { 2 } else { 1 })..5 + size];
        assert!(out[5 + size..].iter().all(|byte| *byte == 0xee), "written too far");
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn decimal(from_scale: i8, precision: u8, to_scale: u8) -> Decimal {
        Decimal::new(from_scale, precision, to_scale).unwrap()
    }

    #[test]
    fn decimals_have_all_digits_of_their_scale() {
        let big = 10_i128.pow(38) - 1;
        for (value, scale, text) in [
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (-12345, 2, "-123.45"),
            (7, 0, "7"),
            (-7, 0, "-7"),
            (big, 0, "99999999999999999999999999999999999999"),
            (-big, 38, "-0.99999999999999999999999999999999999999"),
            (-big, 19, "-9999999999999999999.9999999999999999999"),
            (big, 30, "99999999.999999999999999999999999999999"),
            (1 << 64, 1, "1844674407370955161.6"),
        ] {
            assert_eq!(written(decimal(scale as i8, 38, scale), value).as_deref(), Ok(text));
            assert_eq!(written(DecimalAsText { scale: scale as i8 }, value).as_deref(), Ok(text));
            assert_eq!(written(decimal(scale as i8, 38, scale), i256::from_i128(value)).as_deref(), Ok(text));
        }
    }

    #[test]
    fn another_scale_is_exact_or_refused() {
        use RowErrorReason::{Inexact, OutOfRange};
        for (value, from_scale, precision, to_scale, result) in [
            (123, 1, 5, 2, Ok("12.30")),
            (1230, 3, 5, 2, Ok("1.23")),
            (1231, 3, 5, 2, Err(Inexact)),
            (123, -2, 5, 0, Ok("12300")),
            (123, -3, 5, 0, Err(OutOfRange)),
            (0, -100, 5, 2, Ok("0.00")),
            (1, -100, 5, 2, Err(OutOfRange)),
            (1, 100, 5, 2, Err(Inexact)),
            (99_999, 2, 5, 2, Ok("999.99")),
            (100_000, 2, 5, 2, Err(OutOfRange)),
            (i128::MIN, 0, 38, 0, Err(OutOfRange)),
        ] {
            let writer = decimal(from_scale, precision, to_scale);
            assert_eq!(written(writer, value), result.map(str::to_owned), "{value} e-{from_scale}");
        }
        let huge = i256::from_i128(i128::MAX).wrapping_mul(i256::from_i128(1000));
        assert_eq!(
            written(decimal(41, 38, 38), huge),
            Ok("1.70141183460469231731687303715884105727".to_owned()).and(Err(OutOfRange))
        );
        assert_eq!(written(decimal(40, 38, 37), huge), Err(OutOfRange));
        assert_eq!(written(decimal(2, 38, 2), huge), Err(OutOfRange));
        assert_eq!(written(decimal(40, 38, 36), huge), Err(Inexact));
        assert!(Decimal::new(0, 39, 0).is_none() && Decimal::new(0, 5, 6).is_none());
    }

    #[test]
    fn any_decimal_has_a_plain_text() {
        assert_eq!(written(DecimalAsText { scale: -3 }, -7), Ok("-7000".to_owned()));
        assert_eq!(written(DecimalAsText { scale: -3 }, 0), Ok("0".to_owned()));
        let long = written(DecimalAsText { scale: 70 }, i256::MIN).unwrap_or_default();
        assert_eq!(long, "-5789604.4618658097711785492504343953926634992332820282019728792003956564819968");
    }

    #[test]
    fn text_must_be_a_plain_number_that_fits() {
        use RowErrorReason::{Inexact, InvalidDecimal, OutOfRange};
        let writer = DecimalText { precision: 5, scale: 2 };
        for text in ["0", "-0", "999.99", "-00012.30", "1.500000", "007"] {
            assert_eq!(written(writer, text.as_bytes()).as_deref(), Ok(text));
        }
        for (text, reason) in [
            ("", InvalidDecimal),
            ("-", InvalidDecimal),
            ("+1", InvalidDecimal),
            (".5", InvalidDecimal),
            ("5.", InvalidDecimal),
            ("1e3", InvalidDecimal),
            (" 1", InvalidDecimal),
            ("1,5", InvalidDecimal),
            ("NaN", InvalidDecimal),
            ("1.2.3", InvalidDecimal),
            ("1000", OutOfRange),
            ("0.001", Inexact),
        ] {
            assert_eq!(written(writer, text.as_bytes()), Err(reason), "{text:?}");
        }
    }
}
