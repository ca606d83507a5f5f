//! Instants, dates, times of day, durations and intervals.
//!
//! The service counts timestamps in microseconds and dates in days. Times of day, durations and intervals have no
//! type of its own; they become text with all digits of their unit, or their count.

use std::fmt::{self, Display, Write as _};

use arrow_array::types::{IntervalDayTime, IntervalMonthDayNano};
use arrow_schema::TimeUnit;

use super::Write;
use crate::convert::encode::wire::{delimited_len, put_delimited, put_varint, varint_len};
use crate::convert::error::RowErrorReason;
use crate::convert::policy::TimestampNs;

const MILLIS_PER_DAY: i64 = 86_400_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Instants of a unit that is a multiple of the microsecond.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Micros {
    /// Microseconds of the unit.
    pub(in crate::convert) factor: i64,
    pub(in crate::convert) unit: &'static str,
}

impl Micros {
    #[inline]
    fn micros(&self, value: impl Into<i64>) -> Option<i64> {
        value.into().checked_mul(self.factor)
    }
}

impl<N: Copy + Display + Into<i64>> Write<N> for Micros {
    #[inline]
    fn size(&self, value: N) -> Option<usize> {
        self.micros(value).map(|micros| varint_len(micros.cast_unsigned()))
    }

    #[inline]
    fn put(&self, value: N, out: &mut [u8], at: usize) -> usize {
        let micros = self.micros(value);
        debug_assert!(micros.is_some(), "a value without a size is written");
        put_varint(micros.unwrap_or_default().cast_unsigned(), out, at)
    }

    fn reason(&self, _: N) -> RowErrorReason {
        RowErrorReason::TimestampOverflow
    }

    fn text(&self, value: N) -> String {
        format!("{value} {}", self.unit)
    }
}

/// Instants in nanoseconds, floored: every instant stays in its microsecond, before 1970 too.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct NanosAsMicros {
    pub(in crate::convert) policy: TimestampNs,
}

impl Write<i64> for NanosAsMicros {
    #[inline]
    fn size(&self, value: i64) -> Option<usize> {
        if self.policy == TimestampNs::Error && self.is_floored(value) {
            return None;
        }
        Some(varint_len(value.div_euclid(1_000).cast_unsigned()))
    }

    #[inline]
    fn put(&self, value: i64, out: &mut [u8], at: usize) -> usize {
        put_varint(value.div_euclid(1_000).cast_unsigned(), out, at)
    }

    fn reason(&self, _: i64) -> RowErrorReason {
        RowErrorReason::Nanoseconds
    }

    fn text(&self, value: i64) -> String {
        format!("{value} {}", TimeUnit::Nanosecond)
    }

    #[inline]
    fn is_floored(&self, value: i64) -> bool {
        value % 1_000 != 0
    }
}

/// Dates in milliseconds, as days.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct MillisAsDays;

impl Write<i64> for MillisAsDays {
    #[inline]
    fn size(&self, value: i64) -> Option<usize> {
        let days = i32::try_from(value / MILLIS_PER_DAY).ok().filter(|_| value % MILLIS_PER_DAY == 0)?;
        Some(varint_len(i64::from(days).cast_unsigned()))
    }

    #[inline]
    fn put(&self, value: i64, out: &mut [u8], at: usize) -> usize {
        put_varint((value / MILLIS_PER_DAY).cast_unsigned(), out, at)
    }

    fn reason(&self, value: i64) -> RowErrorReason {
        if value % MILLIS_PER_DAY == 0 { RowErrorReason::OutOfRange } else { RowErrorReason::TimeOfDay }
    }

    fn text(&self, value: i64) -> String {
        format!("{value} {}", TimeUnit::Millisecond)
    }
}

/// Values that become text.
pub(in crate::convert) trait Format<V: Copy> {
    /// Writes the text, or nothing if the value has none.
    fn format(&self, value: V, text: &mut Line) -> fmt::Result;

    /// The value as it is, for an error.
    fn count(&self, value: V) -> String;
}

/// Writes what [`Format`] makes of a value.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct Formatted<F>(pub(in crate::convert) F);

impl<V: Copy, F: Format<V>> Write<V> for Formatted<F> {
    fn size(&self, value: V) -> Option<usize> {
        let mut text = Line::default();
        self.0.format(value, &mut text).ok().map(|()| delimited_len(text.len))
    }

    fn put(&self, value: V, out: &mut [u8], at: usize) -> usize {
        let mut text = Line::default();
        let formatted = self.0.format(value, &mut text);
        debug_assert!(formatted.is_ok(), "a value without a size is written");
        put_delimited(text.bytes(), out, at)
    }

    fn reason(&self, _: V) -> RowErrorReason {
        RowErrorReason::OutOfRange
    }

    fn text(&self, value: V) -> String {
        self.0.count(value)
    }
}

/// A short text that is made without an allocation. An interval, the longest of them, takes 48 bytes.
pub(in crate::convert) struct Line {
    buffer: [u8; 64],
    len: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { buffer: [0; 64], len: 0 }
    }
}

impl Line {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Digits below the second, those of the unit, with their point.
    fn fraction(&mut self, unit: TimeUnit, value: u64) -> fmt::Result {
        match fraction_digits(unit) {
            0 => Ok(()),
            digits => write!(self, ".{value:0digits$}"),
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.buffer.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    10_i64.pow(fraction_digits(unit) as u32)
}

fn fraction_digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Times of day, `HH:MM:SS[.fffffffff]`.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct TimeText(pub(in crate::convert) TimeUnit);

impl<N: Copy + Into<i64>> Format<N> for TimeText {
    fn format(&self, value: N, text: &mut Line) -> fmt::Result {
        let (value, per_second) = (value.into(), per_second(self.0));
        let seconds = value.div_euclid(per_second);
        if !(0..SECONDS_PER_DAY).contains(&seconds) {
            return Err(fmt::Error);
        }
        write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        text.fraction(self.0, value.rem_euclid(per_second).unsigned_abs())
    }

    fn count(&self, value: N) -> String {
        format!("{} {}", value.into(), self.0)
    }
}

/// Durations in ISO 8601, `PT1.500S` or `-PT1.500S`.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct DurationText(pub(in crate::convert) TimeUnit);

impl Format<i64> for DurationText {
    fn format(&self, value: i64, text: &mut Line) -> fmt::Result {
        let (magnitude, per_second) = (value.unsigned_abs(), per_second(self.0).unsigned_abs());
        let sign = if value < 0 { "-" } else { "" };
        write!(text, "{sign}PT{}", magnitude / per_second)?;
        text.fraction(self.0, magnitude % per_second)?;
        text.write_str("S")
    }

    fn count(&self, value: i64) -> String {
        format!("{value} {}", self.0)
    }
}

/// Intervals in ISO 8601 with a sign for each part, as its second part and PostgreSQL have it: `P1M-2DT0.500S`.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct IntervalText;

impl IntervalText {
    fn time(unit: TimeUnit, value: i64, text: &mut Line) -> fmt::Result {
        let (magnitude, per_second) = (value.unsigned_abs(), per_second(unit).unsigned_abs());
        let sign = if value < 0 { "-" } else { "" };
        write!(text, "T{sign}{}", magnitude / per_second)?;
        text.fraction(unit, magnitude % per_second)?;
        text.write_str("S")
    }
}

impl Format<i32> for IntervalText {
    fn format(&self, months: i32, text: &mut Line) -> fmt::Result {
        write!(text, "P{months}M")
    }

    fn count(&self, months: i32) -> String {
        format!("{months} months")
    }
}

impl Format<IntervalDayTime> for IntervalText {
    fn format(&self, value: IntervalDayTime, text: &mut Line) -> fmt::Result {
        write!(text, "P{}D", value.days)?;
        IntervalText::time(TimeUnit::Millisecond, value.milliseconds.into(), text)
    }

    fn count(&self, value: IntervalDayTime) -> String {
        format!("{value:?}")
    }
}

impl Format<IntervalMonthDayNano> for IntervalText {
    fn format(&self, value: IntervalMonthDayNano, text: &mut Line) -> fmt::Result {
        write!(text, "P{}M{}D", value.months, value.days)?;
        IntervalText::time(TimeUnit::Nanosecond, value.nanoseconds, text)
    }

    fn count(&self, value: IntervalMonthDayNano) -> String {
        format!("{value:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted<V: Copy>(format: impl Format<V>, value: V) -> Option<String> {
        let writer = Formatted(format);
        let size = writer.size(value)?;
        let mut out = [0; 80];
        assert_eq!(writer.put(value, &mut out, 0), size);
        Some(String::from_utf8_lossy(&out[1..size]).into_owned())
    }

    #[test]
    fn times_have_the_digits_of_their_unit_and_end_before_midnight() {
        let text = |unit, value: i64| formatted(TimeText(unit), value);
        assert_eq!(text(TimeUnit::Second, 86_399).as_deref(), Some("23:59:59"));
        assert_eq!(text(TimeUnit::Millisecond, 3_723_004).as_deref(), Some("01:02:03.004"));
        assert_eq!(text(TimeUnit::Microsecond, 0).as_deref(), Some("00:00:00.000000"));
        assert_eq!(text(TimeUnit::Nanosecond, 86_399_999_999_999).as_deref(), Some("23:59:59.999999999"));
        assert_eq!(formatted(TimeText(TimeUnit::Second), 60_i32).as_deref(), Some("00:01:00"));
        for (unit, value) in [(TimeUnit::Second, 86_400), (TimeUnit::Second, -1), (TimeUnit::Nanosecond, -1)]
        {
            assert_eq!(text(unit, value), None);
        }
    }

    #[test]
    fn durations_and_intervals_are_iso_8601() {
        let text = |unit, value| formatted(DurationText(unit), value).unwrap_or_default();
        assert_eq!(text(TimeUnit::Second, -90), "-PT90S");
        assert_eq!(text(TimeUnit::Millisecond, 1_500), "PT1.500S");
        assert_eq!(text(TimeUnit::Nanosecond, i64::MIN), "-PT9223372036.854775808S");
        assert_eq!(formatted(IntervalText, -14).as_deref(), Some("P-14M"));
        let day_time = IntervalDayTime::new(3, -1);
        assert_eq!(formatted(IntervalText, day_time).as_deref(), Some("P3DT-0.001S"));
        let longest = IntervalMonthDayNano::new(i32::MIN, i32::MIN, i64::MIN);
        let longest = formatted(IntervalText, longest);
        assert_eq!(longest.as_deref(), Some("P-2147483648M-2147483648DT-9223372036.854775808S"));
    }

    #[test]
    fn instants_are_counted_in_microseconds_and_dates_in_days() {
        let micros = |factor, value: i64| Micros { factor, unit: "" }.micros(value);
        assert_eq!(micros(1_000_000, i64::MAX / 1_000_000), Some(i64::MAX / 1_000_000 * 1_000_000));
        assert_eq!(micros(1_000_000, i64::MAX / 1_000_000 + 1), None);
        let days = MillisAsDays;
        assert_eq!(days.size(-MILLIS_PER_DAY), Some(10));
        assert_eq!((days.size(1), days.reason(1)), (None, RowErrorReason::TimeOfDay));
        let far = MILLIS_PER_DAY * (1 << 31);
        assert_eq!((days.size(far), days.reason(far)), (None, RowErrorReason::OutOfRange));
        assert_eq!(days.size(-far), Some(10));
        let floor = NanosAsMicros { policy: TimestampNs::Floor };
        let error = NanosAsMicros { policy: TimestampNs::Error };
        assert!(floor.is_floored(-1) && floor.size(-1) == Some(10) && error.size(-1).is_none());
        assert!(!floor.is_floored(-1_000) && error.size(-1_000) == Some(10));
    }
}
