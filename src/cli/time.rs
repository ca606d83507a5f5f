//! Times and spans as people say them.

use std::time::Duration;

use arrow_array::temporal_conversions::timestamp_us_to_datetime;
use indicatif::HumanDuration;

/// A time of day in UTC, to the millisecond.
pub(super) fn utc(unix_micros: i64) -> String {
    let told =
        timestamp_us_to_datetime(unix_micros).map(|time| time.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string());
    told.unwrap_or_else(|| format!("{unix_micros} us"))
}

/// A span; one that is too long to be counted is for ever.
pub(super) fn human(secs: f64) -> String {
    let counted = Duration::try_from_secs_f64(secs);
    counted.map_or("for ever".to_owned(), |time| HumanDuration(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_utc_and_one_that_no_calendar_has_as_a_number() {
        assert_eq!(utc(1_795_000_000_123_456), "2026-11-18 11:06:40.123Z");
        assert_eq!(utc(-1), "1969-12-31 23:59:59.999Z");
        assert_eq!(utc(i64::MAX), format!("{} us", i64::MAX));
    }
}
