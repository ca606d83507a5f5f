//! Times as certificates and HTTP write them, in seconds since 1970.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970 of this time in UTC; none if there is no such day or time.
pub(super) fn unix_secs(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let is_time = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second)
        && (0..=9999).contains(&year);
    if !is_time {
        return None;
    }
    // Years that begin in March: a leap day is the last of one. 400 of them have 146,097 days.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The time in a header `Date`: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn of_http(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split([' ', ':']);
    let day = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;
    let mut number = || parts.next()?.parse().ok();
    unix_secs(number()?, month, day, number()?, number()?, number()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_over_leap_years_and_before_1970() {
        assert_eq!(unix_secs(1970, 1, 1, 0, 0, 0), Some(0));
        assert_eq!(unix_secs(2000, 2, 29, 12, 0, 0), Some(951_825_600));
        assert_eq!(unix_secs(2026, 11, 28, 19, 0, 1), Some(1_795_892_401));
        assert_eq!(unix_secs(1969, 12, 31, 23, 59, 59), Some(-1));
        assert_eq!(unix_secs(2026, 13, 1, 0, 0, 0), None);
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(of_http("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for text in ["", "Sun, 06 Nov 1994", "Sun, 06 Non 1994 08:49:37 GMT", "Sun, 6é Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(of_http(text), None, "{text}");
        }
    }
}
